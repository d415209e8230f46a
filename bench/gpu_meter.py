"""Two questions to the meter that need a GPU at a steady load, bfloat16 products of 8192 x 8192:

    kinowatt record -- python bench/gpu_meter.py cut --seconds 30      do random windows add up to the whole?
    python bench/gpu_meter.py overhead --kinowatt build/kinowatt       does recording slow the GPU down?

`cut` opens the window "whole" and, inside it, windows cut-1, cut-2, ... of 0.2 to 3 s that touch. Each line of its
output is one window with its edges on the monotonic clock. `overhead` times the same work with and without
`kinowatt record` beside it, in pairs, and prints each ratio, the share of a core that the recorder used, and what
recording adds to a command that does nothing.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "python"))

import torch

WARM_S = 20  # before the first pair: the card's temperature settles


class Load:
    """Products whose number, not their time, is given, so that two runs do the same work."""

    def __init__(self, n=8192):
        self.a, self.b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        self.c = torch.empty_like(self.a)
        self.run(2000)
        self.time()

    def time(self):
        start = time.monotonic()
        self.run(1000)
        self.product_s = (time.monotonic() - start) / 1000

    def run(self, products):
        for _ in range(products):
            torch.mm(self.a, self.b, out=self.c)
        torch.cuda.synchronize()

    def products(self, seconds):
        return max(1, round(seconds / self.product_s))


def cut(load, seconds, seed):
    import kinowatt

    chance, rows = random.Random(seed), []
    start = time.monotonic()
    with kinowatt.window("whole"):
        while time.monotonic() - start < seconds:
            rows.append({"window": f"whole/cut-{len(rows) + 1}", "start_s": time.monotonic()})
            with kinowatt.window(f"cut-{len(rows)}"):
                load.run(load.products(chance.uniform(0.2, 3.0)))
            rows[-1]["end_s"] = time.monotonic()
    rows.append({"window": "whole", "start_s": start, "end_s": time.monotonic()})
    for row in rows:
        print(json.dumps(row))


def recorder(command):
    """A recorder that runs beside, to be stopped by `stop`."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), time.monotonic()


def stop(process, start):
    """Share of a core that the recorder used, from its beginning to its end."""
    if process.poll() is not None:
        raise SystemExit("the recorder ended before the work did; what it said was not kept")
    process.terminate()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return (usage.ru_utime + usage.ru_stime) / (time.monotonic() - start)


def timed(load, products, command):
    """Seconds for the products while `command` runs, if there is one, and the share of a core that this used."""
    beside = recorder(command) if command else None
    load.run(load.products(1.0))  # the meter is up, and the card as warm as in the other arm
    start = time.monotonic()
    load.run(products)
    seconds = time.monotonic() - start
    return seconds, stop(*beside) if beside else None


def beginning(kinowatt, times=15):
    """Median seconds that recording adds to a command which does nothing."""
    took = {True: [], False: []}
    for _ in range(times):
        for recorded, command in ((True, [kinowatt, "record", "--", "true"]), (False, ["true"])):
            start = time.monotonic()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            took[recorded].append(time.monotonic() - start)
    return statistics.median(took[True]) - statistics.median(took[False])


def overhead(load, seconds, pairs, seed, kinowatt):
    """Pairs whose order is drawn, every second one the other way round than the last, against what drifts."""
    command = [kinowatt, "record", "--", "sleep", str(3 * seconds + 10)]
    card = f"GPU-{torch.cuda.get_device_properties(0).uuid}"[:12]
    print(json.dumps({"gpu": card, "begin_s": beginning(kinowatt)}), flush=True)
    load.run(load.products(WARM_S))
    load.time()
    products, ratios = load.products(seconds), []
    first = random.Random(seed).random() < 0.5
    for pair in range(pairs):
        took = {}
        for recorded in (first, not first) if pair % 2 == 0 else (not first, first):
            took[recorded] = timed(load, products, command if recorded else None)
        alone, recorded, core = took[False][0], *took[True]
        ratios.append(recorded / alone)
        row = {"pair": pair + 1, "alone_s": alone, "recorded_s": recorded, "ratio": ratios[-1], "core": core}
        print(json.dumps(row), flush=True)
    spread = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else None
    print(json.dumps({"median_ratio": statistics.median(ratios), "mean": statistics.mean(ratios), "error": spread}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cut", "overhead"))
    parser.add_argument("--seconds", type=float, default=30.0, help="of the whole, or of each arm")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinowatt", default="build/kinowatt")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this needs a GPU that PyTorch can use")
    load = Load()
    if args.what == "cut":
        cut(load, args.seconds, args.seed)
    else:
        overhead(load, args.seconds, args.pairs, args.seed, args.kinowatt)


if __name__ == "__main__":
    main()
