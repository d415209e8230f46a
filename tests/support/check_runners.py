"""What of stacks/diffusers needs no PyTorch: the time budget on a clock of its own, plans, and going on."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "stacks", "diffusers"))
import full_runs
import h200
import run


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


def row(steps, denoise_s, decode_s=2.0, energy=False, **settings):
    """A row of a run of 50 steps cut to a few, at 500 W."""
    stages, t = [], 0.0
    for name, seconds in (("text_encode", 0.5), ("denoise", denoise_s), ("decode", decode_s)):
        stages.append({"name": name, "start_s": t, "end_s": t + seconds})
        stages[-1] |= {"energy_j": 500 * seconds} if energy else {}
        t += seconds + 0.001
    return {"stages": stages, "full_steps": 50, "settings": {"num_inference_steps": steps, **settings}}


def check_full_runs():
    def near(found, basis, value):
        assert found[0] == basis and abs(found[1] - value) < 1e-9, (found, basis, value)

    # 0.25 s and 1.5 s a step: 0.25 + 75 + 0.5 + the mean decode
    two = [row(2, 3.25, 2.2, True), row(4, 6.25, 1.8, True)]
    near(full_runs.full(two, "seconds"), "slope", 77.75)
    near(full_runs.full(two, "energy_j"), "slope", 500 * 77.75)
    near(full_runs.full(two + [row(50, 70.0, 2.0)], "seconds"), "measured", 72.5)
    near(full_runs.full([row(2, 3.0)], "seconds"), "per-step", 77.5)
    assert full_runs.full([row(2, 3.0)], "energy_j") == ("", "")


def main():
    check_full_runs()
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

    for session in h200.SESSIONS.values():
        plan = [run.Settings(**p) for p in session()]
        names = [p.name for p in plan]
        assert len(set(names)) == len(names) and all(p.estimate_s > 0 for p in plan)
        assert sum(p.estimate_s for p in plan) < 480, sum(p.estimate_s for p in plan)
    sizes = {(p["width"], p["height"]) for p in h200.session_1() if p["num_frames"] == 81}
    frames = {p["num_frames"] for p in h200.session_1() if p["width"] == 1280}
    assert len(sizes) == 8 and len(frames) == 6, (sizes, frames)


if __name__ == "__main__":
    main()
