"""What bench/gpu_meter.py and 50 repeats of a 0.7 s run say of the meter: python bench/meter_figures.py FOLDER

    cut.json        `kinowatt runs export` of the run that recorded `gpu_meter.py cut`: windows at random in a steady load
    runs.json       runs of which some point was repeated many times (the one with the most repeats is taken)
    overhead.jsonl  what `gpu_meter.py overhead` printed, of one card or of several, one after the other

At a steady load each window's energy must be its time at the mean power of the whole, within the interval stated for it.
Repeats must hold the mean of all of them, as often as a 90 % interval says at least. Recording must slow the work by less
than 0.2 % with 95 % confidence, and use less than 2 % of a core. Exit code 4: one falls short.
"""

import json
import os
import statistics
import sys

MOST_MISSING = 0.002  # of the whole's energy
LEAST_HELD = 0.9
MOST_SLOWER = 0.002  # of the time without a recorder: the upper end of the interval of the mean
MOST_CORE = 0.02
STUDENT_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26, 20: 2.09, 30: 2.05}  # of n values, two-sided


def load(folder, name):
    with open(os.path.join(folder, name)) as file:
        return json.load(file)["runs"] if name.endswith(".json") else [json.loads(line) for line in file]


def energy(window):
    return window["energy_j"]["gpu"]


def held(windows, expected):
    """How many intervals hold what is expected, and their mean half-width as a share of it."""
    inside = [energy(w)["low"] <= e <= energy(w)["high"] for w, e in zip(windows, expected)]
    half = statistics.mean((energy(w)["high"] - energy(w)["low"]) / 2 / e for w, e in zip(windows, expected))
    return sum(inside), half


def cut(folder):
    windows = load(folder, "cut.json")[0]["windows"]
    top = next(i for i, w in enumerate(windows) if w["name"] == "whole")
    whole, parts = windows[top], [w for w in windows if w["parent"] == top]
    off = sum(energy(w)["value"] for w in parts) / energy(whole)["value"] - 1
    watts = energy(whole)["value"] / whole["duration_s"]
    inside, half = held(parts, [watts * w["duration_s"] for w in parts])
    print(f"cut: {len(parts)} windows of {whole['duration_s']:.1f} s at {watts:.0f} W: sum {100 * off:+.3f} % of the whole;")
    print(f"     {inside} of {len(parts)} hold their time at the mean power, intervals +-{100 * half:.1f} % on average")
    return abs(off) <= MOST_MISSING and inside == len(parts)


def repeats(folder):
    points = {}
    for run in load(folder, "runs.json"):
        if run["repeat"] >= 0:
            points.setdefault((run["session"], run["point"], run["model"]), []).append(run["windows"][0])
    (_, _, model), windows = max(points.items(), key=lambda p: len(p[1]))
    values = [energy(w)["value"] for w in windows]
    mean, seconds = statistics.mean(values), statistics.mean(w["duration_s"] for w in windows)
    inside, half = held(windows, [mean] * len(windows))
    print(f"repeats: {model}, {len(windows)} of {seconds:.2f} s: {mean:.0f} J on average, sd {statistics.stdev(values):.0f} J;")
    print(f"     {inside} of {len(windows)} intervals hold that mean, intervals +-{100 * half:.0f} % on average")
    return inside >= LEAST_HELD * len(windows)


def overhead(folder):
    rows = load(folder, "overhead.jsonl")
    cards, pairs = [row for row in rows if "gpu" in row], [row for row in rows if "pair" in row]
    slower = [row["ratio"] - 1 for row in pairs]
    mean, error = statistics.mean(slower), statistics.stdev(slower) / len(slower) ** 0.5
    half = error * STUDENT_95[max(n for n in STUDENT_95 if n <= len(slower))]
    seconds, core = statistics.mean(row["alone_s"] for row in pairs), max(row["core"] for row in pairs)
    begin = statistics.mean(row["begin_s"] for row in cards)
    print(f"overhead: {len(pairs)} pairs of {seconds:.0f} s on {len(cards)} cards: mean {100 * mean:+.3f} +- {100 * error:.3f} %;")
    print(f"     from {100 * (mean - half):+.3f} to {100 * (mean + half):+.3f} % with 95 %")
    print(f"     the recorder used {100 * core:.1f} % of a core at most; to begin and end it took {begin:.2f} s")
    return mean + half < MOST_SLOWER and core < MOST_CORE


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    good = [check(sys.argv[1]) for check in (cut, repeats, overhead)]
    sys.exit(0 if all(good) else 4)


if __name__ == "__main__":
    main()
