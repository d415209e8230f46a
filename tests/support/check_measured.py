"""A data set of stacks/diffusers/runs.py, as exported again: python check_measured.py EXPORT.json FOLDER

Stages follow each other and fill the run; their energies, which the meter's edges share, add up to no more than its; the
mean power is no more than the card's limit; h200_diffusers_full.csv says of no computed row that it was measured; no path or
whole UUID of a card is in it."""

import csv
import json
import re
import sys


def check_run(run):
    whole, stages = run["windows"][0], run["windows"][1:]
    assert whole["name"] == "total" and all(s["parent"] == 0 for s in stages), run["uuid"]
    at = 0.0
    for stage in stages:
        assert at - 2e-6 <= stage["begin_s"] <= at + 0.25, (run["uuid"], stage)
        at = stage["begin_s"] + stage["duration_s"]
    assert at <= whole["duration_s"] + 2e-6, (run["uuid"], at)
    energy = [w["energy_j"]["gpu"] for w in run["windows"]]
    assert all(e["low"] <= e["value"] <= e["high"] for e in energy), run["uuid"]
    joules = sum(e["value"] for e in energy[1:])
    assert joules <= energy[0]["value"] * 1.0001 + 0.01, (run["uuid"], joules, energy[0])
    assert joules >= energy[0]["value"] - 700 * (whole["duration_s"] - sum(s["duration_s"] for s in stages)) - 1, run["uuid"]
    limit = run["channels"][0]["limit_w"]
    assert energy[0]["value"] <= 1.02 * limit * whole["duration_s"] + 35, run["uuid"]
    assert run["model"] and run["width"] and run["num_inference_steps"] and run["session"] and run["weights"]


def main():
    with open(sys.argv[1]) as file:
        text = file.read()
    runs = json.loads(text)["runs"]
    assert not re.search(r"GPU-[0-9a-f]{8}-|/root|/home|/tmp", text)
    for run in runs:
        check_run(run)
    assert sum(run["repeat"] >= 0 for run in runs) == 116
    assert {run["settings"]["run.gpu"] for run in runs if run["anchor"]} == {"GPU-ec0387db", "GPU-8856d6e4"}
    with open(f"{sys.argv[2]}/h200_diffusers_full.csv") as file:
        for row in csv.DictReader(file):
            same = [r for r in runs if r["model"] == row["model"] and r["width"] == int(row["width"])]
            same = [r for r in same if r["num_frames"] == int(row["num_frames"]) and r["repeat"] >= 0]
            ran = any(r["num_inference_steps"] == int(row["num_inference_steps"]) for r in same)
            assert ran == (row["basis"] == "measured"), row


if __name__ == "__main__":
    main()
