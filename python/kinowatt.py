"""Tells `kinowatt record` which stage a program is in, and waits for the GPU at a stage's edges.

    import kinowatt

    with kinowatt.window("denoise"):     # also a decorator; windows nest
        ...
    kinowatt.mark("decode")              # ends what mark began before, and begins "decode"
    kinowatt.set(attention="cudnn", num_frames=81)

Without a record (the environment has no KINOWATT_SOCKET) nothing is sent and nothing is waited for.
"""
import contextlib
import os
import socket
import sys
import time


def _send(line):
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(1)
            sender.sendto(line.encode("utf-8", "replace"), os.environ["KINOWATT_SOCKET"])
    except OSError:
        pass  # the record has ended


def _mark(verb, name):
    if not os.environ.get("KINOWATT_SOCKET"):
        return
    torch = sys.modules.get("torch")
    if torch and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    _send(f"{verb} {name} {time.monotonic_ns()}")


class window(contextlib.ContextDecorator):
    """A stage, from entering to leaving."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        _mark("begin", self.name)
        return self

    def __exit__(self, *exception):
        _mark("end", self.name)


def mark(name):
    """Ends the stage that mark began last and begins the next."""
    _mark("mark", name)


def set(**settings):
    """Settings of the run; those with a column of their own (num_frames, model, ...) fill it."""
    if os.environ.get("KINOWATT_SOCKET"):
        for name, value in settings.items():
            _send(f"set {name} {value}")
