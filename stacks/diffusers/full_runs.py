"""Full runs from runs that have few steps: python stacks/diffusers/full_runs.py RUNS.json > h200_diffusers_full.csv

RUNS.json is what `kinowatt runs export` or runs.py wrote. Steps are alike, so denoise is a line in their number and the
other stages do not depend on it. One row for each setting, with its basis:
    measured   runs with the full number of steps are there: their mean
    slope      denoise by the line through two or more numbers of steps; with CPU offload, where copies to the GPU are
               part of denoise, the slope is that of the same model without
    per-step   one number of steps alone, so denoise without an intercept
What is not `measured` is computed, and must never be shown as a measurement. Left out are warm-ups, runs that are not
finite, weights of another law than normal, batches, and a VAE in another dtype than usual: they are compared run by
run. Cards are not told apart.

Standard deviations are what goes into the figure: of energy the meter's intervals, which are 90 % of a normal
law here; of time STAGE_SD of each stage, as repeats differ. A line that is drawn far from few steps carries them along.
"""

import csv
import json
import sys

STAGE_SD = 0.005  # of a stage's time; repeats of 2 s and more differ by 0.1 to 0.5 % (README of the data)
TO_SD = 2 * 1.6449
REQUEST = ["width", "height", "num_frames", "guidance_scale", "batch_size"]
KEYS = ["model", "hardware", "stack", *REQUEST, "weights"]
SETTINGS = ["dtype.vae", "tiling", "offload"]  # offload last
COLUMNS = [*KEYS, "vae_dtype", "tiling", "offload"]


def mean(values):
    return sum(values) / len(values)


def shares(steps, goal):
    """What each run's denoise counts for at `goal` steps: the line of least squares is a sum of them."""
    n, middle = len(steps), mean(steps)
    spread = sum((x - middle) ** 2 for x in steps)
    if not spread:
        return [goal / x / n for x in steps]
    return [1 / n + (goal - middle) * (x - middle) / spread for x in steps]


def parts(run):
    """(steps, {stage: [seconds, joules, sd of joules]}); a stage that ran twice is added up."""
    found = {}
    for window in run["windows"][1:]:
        energy = (window.get("energy_j") or {}).get("gpu") or {}
        joules, sd = energy.get("value"), 0
        if energy.get("low") is not None:
            sd = (energy["high"] - energy["low"]) / TO_SD
        old = found.get(window["name"], [0, 0, 0])
        both = None if joules is None or old[1] is None else old[1] + joules
        found[window["name"]] = [old[0] + window["duration_s"], both, (old[2] ** 2 + sd**2) ** 0.5]
    return run["num_inference_steps"], found


def full(runs, goal, resident=()):
    """(basis, {stage: (seconds, sd, joules, sd)}) at the full number of steps; joules None where one is missing.
    `resident` are runs of the same settings without offload."""
    measured, others = [parts(run) for run in runs], [parts(run) for run in resident]
    exact = [m for m in measured if m[0] == goal]
    steps = [n for n, _ in measured]
    carried = not exact and len(set(steps)) == 1 and len({n for n, _ in others}) > 1
    basis = "measured" if exact else "slope" if carried or len(set(steps)) > 1 else "per-step"
    measured, result = exact or measured, {}
    for stage in measured[0][1]:
        rows = [found[stage] for _, found in measured]
        weights = [1 / len(rows)] * len(rows)
        if stage == "denoise" and carried:  # these runs, and as many steps more as the others say
            known = [n for n, _ in others]
            rows += [found[stage] for _, found in others]
            weights += [a - b for a, b in zip(shares(known, goal), shares(known, steps[0]))]
        elif stage == "denoise" and not exact:
            weights = shares(steps, goal)
        known = all(joules is not None for _, joules, _ in rows)
        result[stage] = (
            sum(w * s for w, (s, _, _) in zip(weights, rows)),
            sum((w * s * STAGE_SD) ** 2 for w, (s, _, _) in zip(weights, rows)) ** 0.5,
            sum(w * j for w, (_, j, _) in zip(weights, rows)) if known else None,
            sum((w * d) ** 2 for w, (_, _, d) in zip(weights, rows)) ** 0.5 if known else None,
        )
    return basis, result


def key(run):
    return tuple(run[k] for k in KEYS) + tuple(run["settings"].get(k, "") for k in SETTINGS)


def read(paths):
    """Runs that can be used, by what they have in common but for the steps, in the order of the first."""
    groups = {}
    for path in paths:
        with open(path) as file:
            for run in json.load(file)["runs"]:
                finite = run["settings"].get("run.latents_finite", "True") == "True"
                plain = finite and run["weights"].endswith(":normal") and run["batch_size"] == 1
                if run["state"] == "done" and plain and (run.get("repeat") or 0) >= 0 and len(run["windows"]) > 1:
                    groups.setdefault(key(run), []).append(run)
    return {values: runs for values, runs in groups.items() if values[-3] == usual_vae(groups, values[0])}


def usual_vae(groups, model):
    """The dtype of the VAE that most settings of a model have."""
    dtypes = [values[-3] for values in groups if values[0] == model]
    return max(dtypes, key=dtypes.count)


def plural(count, what):
    return f"{count} {what}{'' if count == 1 else 's'}"


def note(runs, basis, goal, resident):
    if basis == "measured":
        return f"mean of {plural(sum(run['num_inference_steps'] == goal for run in runs), 'run')}"
    steps = sorted({run["num_inference_steps"] for run in runs})
    text = f"computed from {plural(len(runs), 'run')} of {', '.join(map(str, steps))} step{'' if steps == [1] else 's'}"
    return text + ("; slope of the runs without offload" if basis == "slope" and len(steps) == 1 and resident else "")


def row(values, groups):
    """A row of the table."""
    runs = groups[values]
    resident = groups.get((*values[:-1], "False"), []) if values[-1] == "True" else []
    goal = int(runs[0]["settings"]["run.full_steps"])
    basis, stages = full(runs, goal, resident)
    known = all(s[2] is not None for s in stages.values())
    figures = {
        "latency_s": sum(s[0] for s in stages.values()),
        "latency_sd_s": sum(s[1] ** 2 for s in stages.values()) ** 0.5,
        "gpu_energy_wh": sum(s[2] for s in stages.values()) / 3600 if known else None,
        "gpu_energy_sd_wh": sum(s[3] ** 2 for s in stages.values()) ** 0.5 / 3600 if known else None,
    }
    asked = sorted({run["num_frames_asked"] for run in runs} - {runs[0]["num_frames"]})
    return {
        **dict(zip(COLUMNS, values)),
        "num_frames_asked": asked[0] if asked else runs[0]["num_frames"],
        "num_inference_steps": goal,
        "basis": basis,
        **{k: "" if v is None else f"{v:.5g}" for k, v in figures.items()},
        "note": ("CPU offload; " if values[-1] == "True" else "") + note(runs, basis, goal, resident),
    }


def main():
    groups = read(sys.argv[1:])
    if not groups:
        raise SystemExit(__doc__)
    rows = [row(values, groups) for values in groups]
    out = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    out.writeheader()
    out.writerows(rows)


if __name__ == "__main__":
    main()
