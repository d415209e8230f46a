"""Data sets of stacks/diffusers/runs.py, as exported again: python check_measured.py EXPORT.json FOLDER

Windows lie in those they are nested in and follow each other; their energies, which the meter's edges share, add up to no more
than its; the stages of a recorded repeat fill it; the mean power is no more than the card's limit; h200_diffusers_full.csv
says of no computed row that it was measured; no path or whole UUID of a card is in it."""

import csv
import json
import re
import sys

# of each data set: runs that are no warm-ups, and the cards of its anchors
SETS = {
    "h200-diffusers": (116, {"GPU-ec0387db", "GPU-8856d6e4"}),
    "h200-repeats": (74, {"GPU-b1a92054", "GPU-80db2997"}),
    "h200-sweep": (11, {"GPU-b1a92054"}),
}


def check_inside(run, i):
    """The windows of one, and how much of it lies outside of them."""
    outer = run["windows"][i]
    inner = [w for w in run["windows"] if w["parent"] == i]
    at, energy = outer["begin_s"], outer["energy_j"]["gpu"]
    assert energy["low"] <= energy["value"] <= energy["high"], run["uuid"]
    for window in inner:
        assert window["begin_s"] >= at - 3e-6, (run["uuid"], window)
        at = window["begin_s"] + window["duration_s"]
    assert at <= outer["begin_s"] + outer["duration_s"] + 3e-6, (run["uuid"], at)
    joules = sum(w["energy_j"]["gpu"]["value"] for w in inner)
    assert joules <= energy["value"] * 1.0001 + 0.01, (run["uuid"], joules, energy)
    rest = outer["duration_s"] - sum(w["duration_s"] for w in inner)
    assert not inner or joules >= energy["value"] - 700 * rest - 1, run["uuid"]
    return rest


def check_run(run):
    whole, limit = run["windows"][0], run["channels"][0]["limit_w"]
    rest = [check_inside(run, i) for i in range(len(run["windows"]))][0]
    assert whole["name"] == "total" and (run["kind"] == "sweep" or rest <= 0.25), (run["uuid"], rest)
    assert whole["energy_j"]["gpu"]["value"] <= 1.02 * limit * whole["duration_s"] + 35, run["uuid"]
    assert run["model"] and run["width"] and run["num_inference_steps"] and run["session"] and run["weights"]


def check_clips(path, runs):
    with open(path) as file:
        for row in csv.DictReader(file):
            same = [r for r in runs if r["model"] == row["model"] and r["width"] == int(row["width"])]
            same = [r for r in same if r["num_frames"] == int(row["num_frames"]) and r["repeat"] >= 0]
            ran = any(r["num_inference_steps"] == int(row["num_inference_steps"]) for r in same)
            assert ran == (row["basis"] == "measured"), row


def main():
    with open(sys.argv[1]) as file:
        text = file.read()
    runs = json.loads(text)["runs"]
    assert not re.search(r"GPU-[0-9a-f]{8}-|/root|/home|/tmp", text)
    for run in runs:
        check_run(run)
    for name in {run["dataset"] for run in runs}:
        own = [run for run in runs if run["dataset"] == name]
        count, cards = SETS[name]
        # an anchor of a sweep has no repeat
        assert sum((run["repeat"] or 0) >= 0 for run in own) == count, name
        assert {run["settings"]["run.gpu"] for run in own if run["anchor"]} == cards, name
        if name == "h200-diffusers":
            check_clips(f"{sys.argv[2]}/h200_diffusers_full.csv", own)


if __name__ == "__main__":
    main()
