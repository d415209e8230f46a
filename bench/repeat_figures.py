"""How far equal runs are apart: python bench/repeat_figures.py FOLDER

    runs.json     a data set of `stacks/diffusers/runs.py`
    repeats.json  the same points again, on other cards

Of WAN2.1-1.3B with normal weights, a float32 VAE and one clip: how repeats scatter within a session on one card, how means on each
card of repeats.json differ from those of runs.json, and how many points have three runs or more in one session.
Times are of whole runs. Exit code 4: times scatter by more than the 0.5 % that full_runs.py takes where repeats are too few.
"""

import json
import os
import statistics
import sys

MODEL = "wan2.1-t2v-1.3b"
POINT = ["width", "height", "num_frames_asked", "num_inference_steps"]
RUN_SD = 0.005
ENOUGH = 3
LONG_WH = 1.0  # below, the counter's 100 ms count


def load(folder, name):
    """{point: {(session, card): [(seconds, Wh)]}}, without anchors."""
    points = {}
    with open(os.path.join(folder, name)) as file:
        runs = json.load(file)["runs"]
    for run in runs:
        normal = run["weights"].endswith(":normal") and run["settings"]["dtype.vae"] == "float32"
        if run["model"] != MODEL or run["repeat"] < 0 or run["anchor"] or run["batch_size"] != 1 or not normal:
            continue
        whole = run["windows"][0]
        figures = whole["duration_s"], whole["energy_j"]["gpu"]["value"] / 3600
        groups = points.setdefault(tuple(run[k] for k in POINT), {})
        groups.setdefault((run["session"], run["settings"]["run.gpu"]), []).append(figures)
    return points


def mean_of(groups, quantity):
    return statistics.mean(figures[quantity] for runs in groups for figures in runs)


def spread(values):
    return statistics.stdev(values) / statistics.mean(values)


def scatter(title, groups, quantity):
    """Prints and returns the root mean square of relative standard deviations."""
    spreads = [spread([figures[quantity] for figures in runs]) for runs in groups]
    middle = statistics.mean(s**2 for s in spreads) ** 0.5
    print(f"  {title}: {100 * middle:.2f} % (root mean square of {len(spreads)} points), {100 * max(spreads):.2f} % at most")
    return middle


def differ(title, pairs, quantity):
    ratios = [100 * (mean_of(new, quantity) / mean_of(old, quantity) - 1) for new, old in pairs]
    print(f"  {title} {statistics.mean(ratios):+.1f} % on average, {min(ratios):+.1f} to {max(ratios):+.1f} %")


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    old, new = load(sys.argv[1], "runs.json"), load(sys.argv[1], "repeats.json")
    thrice = [runs for groups in new.values() for runs in groups.values() if len(runs) >= ENOUGH]
    print("repeats.json, within a session on one card:")
    times = scatter("time", thrice, 0)
    scatter(f"energy from {LONG_WH:.0f} Wh", [runs for runs in thrice if mean_of([runs], 1) >= LONG_WH], 1)
    scatter("energy below", [runs for runs in thrice if mean_of([runs], 1) < LONG_WH], 1)
    for card in sorted({card for groups in new.values() for _, card in groups}):
        same = {p: [runs for (_, on), runs in groups.items() if on == card] for p, groups in new.items()}
        pairs = [(runs, old[p].values()) for p, runs in same.items() if runs and p in old]
        print(f"{card} against runs.json, {len(pairs)} points:")
        differ("time", pairs, 0)
        differ("energy", pairs, 1)
    most = [max(len(runs) for s in (old, new) for runs in s.get(p, {}).values()) for p in old]
    print(f"of {len(most)} points {sum(n >= ENOUGH for n in most)} have {ENOUGH} runs or more in one session on one card")
    sys.exit(0 if times <= RUN_SD else 4)


if __name__ == "__main__":
    main()
