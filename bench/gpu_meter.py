"""Two questions to the meter that need a GPU at a steady load, bfloat16 products of 8192 x 8192:

    kinowatt record -- python bench/gpu_meter.py cut --seconds 30      do random windows add up to the whole?
    python bench/gpu_meter.py overhead --kinowatt build/kinowatt       does recording slow the GPU down?

`cut` opens the window "whole" and, inside it, windows cut-1, cut-2, ... of 0.2 to 3 s that touch. Each line of its
output is one window with its edges on the monotonic clock. `overhead` times the same work with and without
`kinowatt record` beside it, in pairs of random order, and prints the median ratio.
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


class Load:
    """Products whose number, not their time, is given, so that two runs do the same work."""

    def __init__(self, n=8192):
        self.a, self.b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        self.c = torch.empty_like(self.a)
        self.run(2000)
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


def timed(load, products, beside):
    """Seconds for the products while `beside` (a command, or nothing) runs."""
    process = subprocess.Popen(beside, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if beside else None
    load.run(load.products(1.0))  # the meter is up, and the card as warm as in the other arm
    start = time.monotonic()
    load.run(products)
    seconds = time.monotonic() - start
    if process:
        if process.poll() is not None:
            raise SystemExit("the recorder ended before the work did; what it said was not kept")
        process.terminate()
        process.wait()
    return seconds


def overhead(load, seconds, pairs, seed, kinowatt):
    chance, ratios = random.Random(seed), []
    products = load.products(seconds)
    beside = [kinowatt, "record", "--", "sleep", str(3 * seconds + 10)]
    for pair in range(pairs):
        arms = [None, beside]
        chance.shuffle(arms)
        took = {bool(arm): timed(load, products, arm) for arm in arms}
        ratios.append(took[True] / took[False])
        print(json.dumps({"pair": pair + 1, "alone_s": took[False], "recorded_s": took[True], "ratio": ratios[-1]}))
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
