"""Full runs from rows of run.py that have few steps: python stacks/diffusers/full_runs.py RESULTS.jsonl... > FULL.csv

Steps are alike, so denoise is a line in their number and the other stages do not depend on it. One row for
each setting, with its basis:
    measured   rows with the full number of steps are there: their mean
    slope      denoise by the line through two or more numbers of steps
    per-step   one number of steps alone, so denoise without an intercept
What is not `measured` is computed, and must never be shown as a measurement. A stage may carry energy_j beside
its times; without it the column stays empty. Warm-ups and rows that are not finite are left out.
"""

import csv
import json
import sys

KEYS = ["model", "width", "height", "num_frames", "guidance_scale", "batch_size"] + [
    "weights",
    "vae_dtype",
    "tiling",
    "offload",
    "prompt_tokens",
    "negative_tokens",
]


def mean(values):
    return sum(values) / len(values)


def line(x, y):
    """Least squares: intercept and slope."""
    middle, level = mean(x), mean(y)
    slope = sum((a - middle) * (b - level) for a, b in zip(x, y)) / sum((a - middle) ** 2 for a in x)
    return level - slope * middle, slope


def quantity(row, name):
    """(denoise, all the rest) in seconds or joules; None where a stage has none."""
    values = [(s["name"], s["end_s"] - s["start_s"] if name == "seconds" else s.get(name)) for s in row["stages"]]
    if any(v is None for _, v in values):
        return None
    return sum(v for s, v in values if s == "denoise"), sum(v for s, v in values if s != "denoise")


def full(rows, name):
    """(basis, value at the full number of steps)"""
    steps, parts = [r["settings"]["num_inference_steps"] for r in rows], [quantity(r, name) for r in rows]
    if None in parts:
        return "", ""
    goal = rows[0]["full_steps"]
    exact = [sum(p) for n, p in zip(steps, parts) if n == goal]
    if exact:
        return "measured", mean(exact)
    denoise, rest = [p[0] for p in parts], mean([p[1] for p in parts])
    if len(set(steps)) > 1:
        intercept, slope = line(steps, denoise)
        return "slope", intercept + slope * goal + rest
    return "per-step", mean(denoise) / steps[0] * goal + rest


def read(paths):
    groups = {}
    for path in paths:
        with open(path) as file:
            for row in map(json.loads, file):
                if "stages" in row and row["latents_finite"] and not row["window"].endswith("warmup"):
                    groups.setdefault(tuple(row["settings"][k] for k in KEYS), []).append(row)
    return groups


def main():
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*KEYS, "num_inference_steps", "basis", "seconds", "energy_j", "steps_measured", "rows"])
    for key, rows in read(sys.argv[1:]).items():
        basis, seconds = full(rows, "seconds")
        _, energy = full(rows, "energy_j")
        steps = sorted({r["settings"]["num_inference_steps"] for r in rows})
        numbers = [f"{v:.6g}" if v != "" else "" for v in (seconds, energy)]
        out.writerow([*key, rows[0]["full_steps"], basis, *numbers, " ".join(map(str, steps)), len(rows)])


if __name__ == "__main__":
    main()
