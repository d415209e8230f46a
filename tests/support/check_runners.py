"""What of stacks/diffusers needs no PyTorch: the time budget on a clock of its own, plans, and going on."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "stacks", "diffusers"))
import full_runs
import h200
import run
import runs


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class FakeRunner:
    """Each point takes its estimate times `slow`."""

    def __init__(self, clock, slow=1.0, broken=()):
        self.clock, self.slow, self.broken, self.key, self.ran = clock, slow, broken, None, []

    def point(self, settings):
        if settings.name in self.broken:
            raise RuntimeError("out of memory")
        for i in range(settings.repeats):
            self.clock.now += settings.estimate_s * self.slow / settings.repeats
            row_settings = {"name": settings.name, "repeats": settings.repeats, "weights": settings.weights}
            yield {
                "window": f"{settings.name}/repeat-{i + 1}",
                "seconds": 1,
                "stages": [],
                "settings": row_settings,
                "latents_finite": True,
                "frames_constant": False,
            }
        self.ran.append(settings.name)


def points(*estimates, **reserved):
    made = [run.Settings(model="m", name=f"p{i}", estimate_s=s) for i, s in enumerate(estimates)]
    return made + [run.Settings(model="m", name=n, estimate_s=s, reserved=True) for n, s in reserved.items()]


def play(plan, seconds, slow=1.0, broken=(), done=()):
    clock, rows = Clock(), []
    runner = FakeRunner(clock, slow, broken)
    failed = run.run_plan(plan, runner, rows.append, run.Budget(seconds, plan, clock), done)
    return runner.ran, failed, rows, clock.now - Clock.now


def window(name, seconds, energy):
    joules = {"value": 500 * seconds, "low": 500 * seconds - 10, "high": 500 * seconds + 10}
    return {"name": name, "duration_s": seconds, "energy_j": {"gpu": joules} if energy else {}}


def recorded(steps, denoise_s, decode_s=2.0, energy=True, **more):
    """A run of 50 steps cut to a few, at 500 W, whose joules are known to +-10."""
    windows, total = [], 0.0
    for name, seconds in (("text_encode", 0.25), ("denoise", denoise_s), ("decode", decode_s), ("text_encode", 0.25)):
        windows.append(window(name, seconds, energy))
        total += seconds
    return {"num_inference_steps": steps, "windows": [window("total", total, energy), *windows], **more}


def check_full_runs():
    def near(found, basis, seconds, joules):
        assert found[0] == basis and abs(found[2][0] - seconds) < 1e-9, (found, seconds)
        assert abs(found[3][0] - joules) < 1e-6, (found, joules)

    # 0.25 s and 1.5 s a step: 0.25 + 75 + 0.5 of text, which ran twice, + the mean decode
    two = [recorded(2, 3.25, 2.2), recorded(4, 6.25, 1.8)]
    near(full_runs.full(two, 50), "slope", 77.75, 500 * 77.75)
    near(full_runs.full(two + [recorded(50, 70.0)], 50), "measured", 72.5, 500 * 72.5)
    near(full_runs.full([recorded(2, 3.0)], 50), "per-step", 77.5, 500 * 77.5)
    assert full_runs.full([recorded(2, 3.0, energy=False)], 50)[3] == (None, None)
    # 10 s of copies in denoise: they are there once, not at each step
    near(full_runs.full([recorded(2, 13.25)], 50, two), "slope", 10 + 77.75, 500 * 87.75)
    # what passes between stages is of the run: 0.3 s more, at 100 W
    late = recorded(2, 3.0)
    late["windows"][0]["duration_s"] += 0.3
    late["windows"][0]["energy_j"]["gpu"]["value"] += 30
    near(full_runs.full([late], 50), "per-step", 77.8, 500 * 77.5 + 30)

    # the line at 50 is 24 times the second run's denoise less 23 times the first's, and half of each run's rest;
    # the meter's +-10 J of wholes and denoise, 0.5 % of what each run counts for, and of one run
    sd = lambda *parts: sum(p**2 for p in parts) ** 0.5
    first, second = 5.95 / 2 - 23.5 * 3.25, 8.55 / 2 + 23.5 * 6.25
    _, _, seconds, joules = full_runs.full(two, 50)
    near_seconds = sd(0.005 * first, 0.005 * second, 0.005 * 77.75)
    assert abs(seconds[1] - near_seconds) < 1e-9, (seconds, near_seconds)
    meter = 20 / (2 * 1.6449) * sd(0.5, 0.5, 23.5, 23.5)
    assert abs(joules[1] - sd(500 * near_seconds, meter)) < 1e-6, joules
    # repeats tell: 9, 10 and 11 s have a standard deviation of 1 s, and so has one run of them; three of a kind suffice
    three = [recorded(50, seconds - 2.5) for seconds in (9, 10, 11)]
    basis, count, seconds, _ = full_runs.full(three, 50)
    assert (basis, count) == ("measured", 3) and abs(seconds[1] - 1) < 1e-9, seconds
    assert abs(full_runs.full(three[:2], 50)[2][1] - 0.005 * 9.5 * (1 + 1 / 2) ** 0.5) < 1e-3


def check_runs():
    """Two windows of one process become two runs; what the results lack, and windows of no row, do not."""
    names = ["total", "p", "warmup", "denoise", "repeat-1", "denoise", "output", "q", "repeat-1"]
    parents, begins = [None, 0, 1, 2, 1, 4, 4, 0, 7], [0, 1, 1, 1, 5, 5, 8, 9, 9]
    joules = {"gpu": {"value": 100.0, "low": 90.0, "high": 110.0, "status": "measured"}}
    joules["cpu"] = {"value": None, "reason": "no counter"}
    windows = [
        {"name": n, "parent": p, "begin_s": float(b), "duration_s": 1.0, "failed_reads": 0, "gap_s": 0, "note": None}
        | {q: joules for q in ("energy_j", "power_w", "max_power_w", "idle_power_w")}
        for n, p, b in zip(names, parents, begins)
    ]
    whole = {
        "uuid": "3e03d04b-09d8-4d9d-ae83-a86d2e5d6879",
        "session": "s",
        "began": "2026-11-24T18:59:58.500Z",
        "hardware": "h200",
        "channels": [{"source": "nvml", "label": "GPU-ec0387db-4efc-2f10-bf06-dae86c1581ed"}],
        "windows": windows,
        "details": [{"window": i, "channel": 0, "energy_j": 100.0} for i in range(len(windows))],
    }
    row = {"settings": vars(run.Settings(model="m", name="p", num_frames=84, num_inference_steps=2, guidance_scale=4.5))}
    row |= {"size_out": [64, 32], "frames_out": 79, "full_steps": 64, "latents_finite": True, "frames_constant": False}
    row |= {"attention": {"denoise": {"cudnn": 3, "flash": 2}}, "dtypes": {"vae": {"float32": 9, "float16": 90}}}
    row |= {"peak_bytes": 5}
    results = [{"versions": {"diffusers": "0.40.0", "gpu_uuid": "GPU-ec0387db-4efc-2f10-bf06-dae86c1581ed"}}]
    results += [row | {"window": w} for w in ("p/warmup", "p/repeat-1", "p/repeat-2")] + [{"skipped": "r"}]
    warm, one = runs.runs_of(whole, results, "d")
    assert (warm["repeat"], one["repeat"], one["point"], one["began"]) == (-2, 0, 0, "2026-11-24T19:00:03.500Z")
    assert [w["name"] for w in one["windows"]] == ["total", "denoise", "output"], one["windows"]
    assert [w["begin_s"] for w in one["windows"]] == [0, 0, 3] and [d["window"] for d in one["details"]] == [0, 1, 2]
    assert [w["parent"] for w in one["windows"]] == [None, 0, 0]
    assert "cpu" in one["windows"][0]["energy_j"] and "cpu" not in one["windows"][1]["energy_j"]
    assert one["settings"]["attention.denoise"] == "cudnn+flash" and one["settings"]["dtype.vae"] == "float16+float32"
    assert (one["stack"], one["num_frames"], one["num_frames_asked"]) == ("diffusers-0.40", 79, 84)
    assert "4efc" not in json.dumps(one) and warm["uuid"] != one["uuid"]
    assert runs.runs_of(whole, results, "d")[1]["uuid"] == one["uuid"]  # importing again adds nothing


def main():
    check_full_runs()
    check_runs()
    ran, _, rows, _ = play(points(10, 50, 20, last=5), 40)
    assert ran == ["p0", "p2", "last"], ran  # p1 does not fit, p2 does, and the last one's time was kept
    assert [r["skipped"] for r in rows if "skipped" in r] == ["p1"], rows
    ran, _, _, taken = play(points(10, 10, 10, last=5), 39, slow=1.6)
    assert ran == ["p0", "last"] and taken <= 39, (ran, taken)  # it learns that all takes longer
    ran, failed, rows, _ = play(points(1, 1, 1), 100, broken=("p1",))
    assert ran == ["p0", "p2"] and failed == 1 and any(r.get("failed") == "p1" for r in rows), rows
    ran, _, _, _ = play(points(1, 1, 1), 100, done={"p0", "p2"})
    assert ran == ["p1"], ran

    with open("results.jsonl", "w") as file:  # a point is done when its last repeat is there
        for name, repeat in (("a", 1), ("a", 2), ("b", 1)):
            row = {"window": f"{name}/repeat-{repeat}", "settings": {"name": name, "repeats": 2}}
            print(json.dumps(row), file=file)
        print(json.dumps({"skipped": "c"}), file=file)
    assert run.names_done("results.jsonl") == {"a"}

    budgets = {"4": 330, "5": 560}  # as h200.py says, the others 450, which one may overrun
    for number, session in h200.SESSIONS.items():
        plan = [run.Settings(**p) for p in session()]
        names = [p.name for p in plan]
        assert len(set(names)) == len(names) and all(p.estimate_s > 0 for p in plan)
        estimate = sum(p.estimate_s for p in plan)
        assert estimate < budgets.get(number, 480), (number, estimate)
    sizes = {(p["width"], p["height"]) for p in h200.session_1() if p["num_frames"] == 81}
    frames = {p["num_frames"] for p in h200.session_1() if p["width"] == 1280}
    assert len(sizes) == 8 and len(frames) == 6, (sizes, frames)


if __name__ == "__main__":
    main()
