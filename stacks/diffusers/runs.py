"""One run for each warm-up and repeat, from what `kinowatt record` kept of run.py, as `kinowatt import` reads it.

    kinowatt record -- python stacks/diffusers/run.py --configs PLAN.jsonl --results results.jsonl
    kinowatt runs export RUN -o recorded.json
    python stacks/diffusers/runs.py recorded.json results.jsonl --dataset NAME --folder FOLDER
    kinowatt import FOLDER/runs.json

Several pairs of files make one data set of several sessions. The recorded run has all windows of one process;
the results say what each one ran. A row of the results belongs to the window of its name, POINT/repeat-K, which
becomes the run's total, and the windows inside are its stages. One file alone is `kinowatt runs export` of a sweep,
which has a run for each repeat already. FOLDER gets, under another name with `--name`,

    runs.json   what `kinowatt runs export` would write
    runs.csv    the same for people: one line for each run; not of a sweep

Figures have seven digits, what is absent has its reason once in each run (in its total). Cards are known by the first
eight digits of their UUID, and the command with its paths is left out. Which setting tells of the run alone
begins with "run.".
"""

import argparse
import csv
import datetime
import json
import os
import uuid

DEVICES = ("gpu", "cpu", "ram")
ANCHOR = "anchor"  # a point whose name begins so is measured at both ends of a session
WARM_UP = -2
REQUEST = ["batch_size", "prompt_tokens", "negative_tokens", "guidance_scale", "num_inference_steps"]
SETTINGS = ["vae_dtype", "tiling", "offload", "output_type"]
STAGES = ["text_encode", "denoise", "upscale", "refine", "decode", "output"]


def short(value):
    """Seven digits; all else as it is, with the members of objects."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items()}
    return value


def card(text):
    """GPU-12345678 of a longer UUID."""
    return text[:12] if text.startswith("GPU-") else text


# ---- Windows ----


def paths(windows):
    """POINT/repeat-K for each window that is nested so, without the run's own."""
    found = {}
    for i, window in enumerate(windows):
        parent = window["parent"]
        above = found.get(parent, "") if parent else ""
        found[i] = f"{above}/{window['name']}" if above else window["name"]
    return found


def inside(windows, top):
    """Positions of a window and of all that are nested in it, in their order."""
    kept = [top]
    for i in range(top + 1, len(windows)):
        if windows[i]["parent"] in kept:
            kept.append(i)
    return kept


def readings(window, quantity, whole):
    """Those that are there, and why the others are not, if it is the total."""
    values = {d: short(x) for d, x in (window[quantity] or {}).items() if x}
    return {d: x for d, x in values.items() if x["value"] is not None or whole}


def cut(recorded, top):
    """Windows and details of a run of its own, of which `top` is the total."""
    kept = inside(recorded["windows"], top)
    begin, windows = recorded["windows"][top]["begin_s"], []
    for i in kept:
        window, whole = recorded["windows"][i], i == top
        quantities = {q: readings(window, q, whole) for q in ("energy_j", "power_w", "max_power_w", "idle_power_w")}
        windows.append(
            {
                "name": "total" if whole else window["name"],
                "parent": None if whole else kept.index(window["parent"]),
                "begin_s": round(window["begin_s"] - begin, 6),
                "duration_s": round(window["duration_s"], 6),
                **{k: window[k] for k in ("failed_reads", "gap_s", "note") if window[k] is not None},
                **{q: v for q, v in quantities.items() if v},
            }
        )
    details = [
        {k: short(v) for k, v in {**d, "window": kept.index(d["window"])}.items() if v is not None}
        for d in recorded["details"]
        if d["window"] in kept
    ]
    return windows, details


# ---- Runs ----


def settings(row, versions):
    """Texts, as all settings are."""
    found = {name: row["settings"][name] for name in SETTINGS if row["settings"][name] is not None}
    for stage, kernels in (row["attention"] or {}).items():
        found[f"attention.{stage}"] = "+".join(sorted(kernels))
    for part, counts in row["dtypes"].items():
        found[f"dtype.{part}"] = "+".join(sorted(counts, key=counts.get, reverse=True))
    found |= {name: value for name, value in versions.items() if name != "gpu_uuid"}
    found |= {
        "run.gpu": card(versions.get("gpu_uuid", "")),
        "run.window": row["window"],
        "run.seed": row["settings"]["seed"],
        "run.full_steps": row["full_steps"],
        "run.peak_bytes": row.get("peak_bytes"),
        "run.latents_finite": row["latents_finite"],
        "run.frames_constant": row["frames_constant"],
    }
    return {k: str(v) for k, v in sorted(found.items()) if v not in (None, "")}


def request(row):
    """What came out, and what was asked for."""
    width, height = row["size_out"]
    asked = row["settings"]
    found = {"width": width, "height": height, "num_frames": row["frames_out"]}
    return found | {"num_frames_asked": asked["num_frames"]} | {name: asked[name] for name in REQUEST}


def run_of(recorded, top, row, versions, point, dataset):
    """A run of the store (docs/STORE.md)."""
    windows, details = cut(recorded, top)
    began = datetime.datetime.fromisoformat(recorded["began"].replace("Z", "+00:00"))
    began += datetime.timedelta(seconds=recorded["windows"][top]["begin_s"])
    name = row["window"].rsplit("/", 1)[1]
    return {
        "uuid": str(uuid.uuid5(uuid.UUID(recorded["uuid"]), row["window"])),
        "began": began.strftime("%Y-%m-%dT%H:%M:%S.") + f"{began.microsecond // 1000:03d}Z",
        "kind": "record",
        "state": "done",
        "session": recorded["session"],
        "dataset": dataset,
        "point": point,
        "repeat": WARM_UP if name == "warmup" else int(name.removeprefix("repeat-")) - 1,
        "anchor": int(row["settings"]["name"].startswith(ANCHOR)),
        "model": os.path.basename(row["settings"]["model"]),
        "what": "pipeline",
        "hardware": recorded["hardware"],
        "stack": "diffusers-" + ".".join(versions["diffusers"].split(".")[:2]),
        "weights": row["settings"]["weights"],
        "note": "the values of the latents are not finite" if not row["latents_finite"] else None,
        "num_gpus": 1,
        **request(row),
        "settings": settings(row, versions),
        "channels": [{**c, "label": card(c["label"])} for c in recorded["channels"]],
        "windows": windows,
        "details": details,
    }


def runs_of(recorded, results, dataset):
    """The runs of one session, in their order."""
    at = {path: i for i, path in paths(recorded["windows"]).items()}
    versions, points, runs = {}, {}, []
    for row in results:
        versions = row.get("versions", versions)
        if row.get("window") not in at:
            continue  # what was left out, failed, or ran in another session
        point = points.setdefault(row["settings"]["name"], len(points))
        runs.append(run_of(recorded, at[row["window"]], row, versions, point, dataset))
    if not runs:
        raise SystemExit("no window of the recorded run has the name of a row of the results: are they of one session?")
    return runs


def of_sweep(run, dataset):
    """A run that `kinowatt sweep` kept, without what is not there."""
    windows, details = cut(run, 0)
    versions = {k: v for k, v in run["settings"].items() if k != "gpu_uuid"}
    found = {k: short(v) for k, v in run.items() if v is not None and k != "findings"}
    return found | {
        "dataset": dataset,
        "settings": versions | {"run.gpu": card(run["settings"].get("gpu_uuid", ""))},
        "channels": [{**c, "label": card(c["label"])} for c in run["channels"]],
        "windows": windows,
        "details": details,
    }


# ---- Files ----


def write_json(path, runs):
    with open(path, "w") as file:
        lines = ",\n".join(json.dumps(run, separators=(",", ":")) for run in runs)
        file.write('{"schema": "kinowatt.runs/1", "runs": [\n' + lines + "\n]}\n")


def line_of(run, session):
    """A line of runs.csv."""
    whole, set_, detail = run["windows"][0], run["settings"], next((d for d in run["details"] if d["window"] == 0), {})
    energy = whole.get("energy_j", {}).get("gpu") or {}
    parts = {name: [w for w in run["windows"][1:] if w["name"] == name] for name in STAGES}
    joules = {n: [w.get("energy_j", {}).get("gpu", {}).get("value") for w in ws] for n, ws in parts.items()}
    wh = {k: energy[k] / 3600 if energy.get(k) is not None else None for k in ("value", "low", "high")}
    line = {
        "session": session,
        "gpu": set_["run.gpu"],
        "point": set_["run.window"].rsplit("/", 1)[0],
        "run": set_["run.window"].rsplit("/", 1)[1],
        **{k: run[k] for k in ("model", "width", "height", "num_frames", "num_inference_steps", "batch_size")},
        "weights": run["weights"].rsplit(":", 1)[1],
        "vae_dtype": set_["dtype.vae"],
        "offload": set_["offload"],
        "attention": set_.get("attention.denoise"),
        "seconds": whole["duration_s"],
        **{f"{n}_s": sum(w["duration_s"] for w in ws) if ws else None for n, ws in parts.items()},
        "wh": wh["value"],
        "wh_low": wh["low"],
        "wh_high": wh["high"],
        **{f"{n}_wh": sum(js) / 3600 if js and None not in js else None for n, js in joules.items()},
        "watts": energy["value"] / whole["duration_s"] if energy.get("value") is not None else None,
        "sm_clock_mhz": detail.get("sm_clock_mhz"),
        "temperature_c": detail.get("temperature_c"),
    }
    return {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in line.items()}


def write_csv(path, runs):
    sessions = {}
    lines = [line_of(run, sessions.setdefault(run["session"], len(sessions) + 1)) for run in runs]
    with open(path, "w", newline="") as file:
        out = csv.DictWriter(file, lines[0], lineterminator="\n")
        out.writeheader()
        out.writerows(lines)


def load_runs(path):
    with open(path) as file:
        return json.load(file)["runs"]


def load(recorded_path, results_path):
    recorded = load_runs(recorded_path)
    if len(recorded) != 1:
        raise SystemExit(f"{recorded_path}: {len(recorded)} runs; export the one that run.py was recorded in")
    with open(results_path) as file:
        return recorded[0], [json.loads(line) for line in file if line.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help="RECORDED.json RESULTS.jsonl, for each session; or SWEEP.json")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="what the runs belong to")
    parser.add_argument("--folder", default=".", help="where the files go")
    parser.add_argument("--name", default="runs", help="what they are called: runs.json, runs.csv without it")
    args = parser.parse_args()
    sweep = len(args.files) == 1
    if not sweep and len(args.files) % 2:
        parser.error("give a recorded run and its results for each session, or one export of a sweep")
    runs = [of_sweep(run, args.dataset) for run in load_runs(args.files[0])] if sweep else []
    for i in range(0, len(args.files) - sweep, 2):
        runs += runs_of(*load(*args.files[i : i + 2]), args.dataset)
    os.makedirs(args.folder, exist_ok=True)
    path = os.path.join(args.folder, args.name)
    write_json(path + ".json", runs)
    if not sweep:
        write_csv(path + ".csv", runs)


if __name__ == "__main__":
    main()
