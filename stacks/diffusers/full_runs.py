"""Full runs from runs that have few steps: python stacks/diffusers/full_runs.py RUNS.json > h200_diffusers_full.csv

RUNS.json is what `kinowatt runs export` or runs.py wrote. Steps are alike, so denoise is a line in their number, and the
rest of a run, also what passes between its stages, does not depend on it. One row for each setting, with its basis:
    measured   runs with the full number of steps are there: their mean
    slope      denoise by the line through two or more numbers of steps; with CPU offload, where copies to the GPU are
               part of denoise, the slope is that of the same model without
    per-step   one number of steps alone, so denoise without an intercept
What is not `measured` is computed, and must never be shown as a measurement. Left out are warm-ups, runs that are not
finite, weights of another law than normal, batches, and a VAE in another dtype than usual: they are compared run by
run. Cards are not told apart.

A standard deviation says how far one such run may be from the figure: how far repeats are apart (of three runs or more
that repeat others; 0.5 % of a run where there are fewer), what of that the line carries along, and of energy
what the meter did not know of it, whose intervals are 90 % of a normal law here. `runs` says of how many the mean is, or the line.
"""

import csv
import json
import sys

RUN_SD = 0.005  # of a run, where repeats are too few to tell: other cards' scatter by 0.3 % (bench/repeat_figures.py)
FEWEST = 2  # runs more than groups of repeats that tell a spread
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


def figures_of(windows):
    """(seconds, joules, sd of joules) of all of them together; joules None where one is not known."""
    energy = [(w.get("energy_j") or {}).get("gpu") or {} for w in windows]
    joules = [e.get("value") for e in energy]
    sds = [(e["high"] - e["low"]) / TO_SD for e in energy if e.get("low") is not None]
    known = all(j is not None for j in joules)
    return sum(w["duration_s"] for w in windows), sum(joules) if known else None, sum(d**2 for d in sds) ** 0.5


def parts(run):
    """(steps, figures of the whole, of its denoise)."""
    denoise = [w for w in run["windows"][1:] if w["name"] == "denoise"]
    return run["num_inference_steps"], figures_of(run["windows"][:1]), figures_of(denoise)


def spread(groups):
    """Relative sd of values about the mean of their group; None where too few say."""
    free = sum(len(g) - 1 for g in groups)
    if free < FEWEST:
        return None
    return (sum((x / mean(g) - 1) ** 2 for g in groups for x in g) / free) ** 0.5


def figure(runs, terms, which):
    """(value, sd) of the sum of whole and denoise of each run, times its term; which: 0 seconds, 1 joules."""
    if any(whole[which] is None or denoise[which] is None for _, whole, denoise in runs):
        return None, None
    repeats = {}
    for steps, whole, _ in runs[: terms["own"]]:
        repeats.setdefault(steps, []).append(whole[which])
    apart = spread(list(repeats.values()))
    meter = [[part[2] if which else 0 for part in run[1:]] for run in runs]
    value, variance = 0, 0
    for (_, whole, denoise), sds, a, b in zip(runs, meter, terms["whole"], terms["denoise"]):
        of_run = a * whole[which] + b * denoise[which]
        value += of_run
        variance += (of_run * (RUN_SD if apart is None else apart)) ** 2 + (a * sds[0]) ** 2 + (b * sds[1]) ** 2
    if terms["mean"] and apart is not None:  # the spread of the runs holds what the meter did not know
        return value, apart * value
    return value, (variance + ((RUN_SD if apart is None else apart) * value) ** 2) ** 0.5


def full(runs, goal, resident=()):
    """(basis, number of runs, (seconds, sd), (joules, sd)) at the full number of steps; joules None where one is
    missing. `resident` are runs of the same settings without offload."""
    measured, others = [parts(run) for run in runs], [parts(run) for run in resident]
    exact = [m for m in measured if m[0] == goal]
    steps = [m[0] for m in measured]
    carried = not exact and len(set(steps)) == 1 and len({m[0] for m in others}) > 1
    basis = "measured" if exact else "slope" if carried or len(set(steps)) > 1 else "per-step"
    used = exact or measured
    own = len(used)
    whole, denoise = [1 / own] * own, [0] * own
    if carried:  # these runs, and as many steps more as the others say
        known = [m[0] for m in others]
        used, whole = used + others, whole + [0] * len(others)
        denoise += [a - b for a, b in zip(shares(known, goal), shares(known, steps[0]))]
    elif not exact:
        denoise = [share - 1 / own for share in shares(steps, goal)]
    terms = {"own": own, "whole": whole, "denoise": denoise, "mean": bool(exact)}
    return basis, len(used), figure(used, terms, 0), figure(used, terms, 1)


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
    basis, count, (seconds, seconds_sd), (joules, joules_sd) = full(runs, goal, resident)
    figures = {
        "latency_s": seconds,
        "latency_sd_s": seconds_sd,
        "gpu_energy_wh": joules and joules / 3600,
        "gpu_energy_sd_wh": joules and joules_sd / 3600,
    }
    asked = sorted({run["num_frames_asked"] for run in runs} - {runs[0]["num_frames"]})
    return {
        **dict(zip(COLUMNS, values)),
        "num_frames_asked": asked[0] if asked else runs[0]["num_frames"],
        "num_inference_steps": goal,
        "basis": basis,
        "runs": count,
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
