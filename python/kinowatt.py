"""Tells `kinowatt record` which stage a program is in; waits for the GPUs in use at a stage's edges.

    with kinowatt.window("denoise"): ...             # also a decorator; windows nest
    kinowatt.mark("decode")                          # ends what mark began last, and begins the next
    kinowatt.set(attention="cudnn", num_frames=81)   # settings of the run
Without a record (the environment has no KINOWATT_SOCKET) nothing is sent and nothing is waited for."""
import contextlib
import os
import socket
import sys
import time

def _send(line):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)  # an OSError: the record has ended
        sender.sendto(line.encode("utf-8", "replace"), os.environ["KINOWATT_SOCKET"])

def _mark(verb, name):
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if os.environ.get("KINOWATT_SOCKET"):
        for device in range(cuda.device_count()) if cuda and cuda.is_initialized() else ():
            if cuda.memory_reserved(device):  # else it has no work, and a context is not made for it
                with contextlib.suppress(Exception):  # of work that failed the program's next call tells
                    cuda.synchronize(device)
        _send(f"{verb} {name} {time.monotonic_ns()}")

@contextlib.contextmanager
def window(name):
    _mark("begin", name)
    try:
        yield
    finally:
        _mark("end", name)

def mark(name):
    _mark("mark", name)

def set(**settings):
    for name, value in settings.items() if os.environ.get("KINOWATT_SOCKET") else ():
        _send(f"set {name} {value}")
