"""The plans of the H200 data set: python stacks/diffusers/h200.py 1|2|3|4|5 > PLAN.jsonl

Three sessions of about 450 s each: (1) the WAN2.1-1.3B sweeps, (2) the other models as the paper ran
them, (3) side experiments. Two more, of 330 and 560 s, run the points of (1) that it ran once or twice
three times over: (4) those of 81 frames below 1280x720, (5) those of 1280x720. The most important comes
first within a session, as run.py leaves out what no longer fits. Long runs are made with two small
numbers of steps: steps are alike, so the rest follows from the slope. Estimates are rounded up from
forward passes and decodes timed once on that card (data/published/h200_diffusers040.csv).
"""

import json
import sys

WAN = "wan2.1-t2v-1.3b"
ANCHOR = {"width": 832, "height": 480, "num_frames": 81, "num_inference_steps": 4}
LOAD_S = 12.0  # building a model on the device

# (width, height, steps of each run, repeats): eight sizes of the paper's grid, 81 frames
SIZES = [
    (256, 256, (4, 20, 50), 3),
    (384, 384, (4, 20), 2),
    (512, 512, (4, 12), 1),
    (768, 432, (2, 6), 1),
    (832, 480, (2, 12), 1),
    (1024, 576, (2, 4), 1),
    (1280, 720, (2, 4), 1),
]
LARGEST = (1536, 864, (1, 2), 1)
# (frames asked for, steps): six counts of the paper's grid at 1280x720 with the 81 above; 48 is also its step sweep
FRAMES = [(4, (10, 50)), (16, (4, 12)), (32, (2, 6)), (48, (1, 2, 4, 8)), (64, (2, 4))]


def wan_step_s(width, height, frames, forward=(7.87e-6, 3.17e-10)):
    """One step, two passes, by the tokens: 0.598 s a pass at 32,760 and 2.407 s at 75,600."""
    tokens = ((frames - 1) // 4 + 1) * (height // 16) * (width // 16)
    return 2 * (forward[0] * tokens + forward[1] * tokens**2)


def wan_rest_s(width, height, frames):
    """Text, decode in float32 and the copy to the host: 2.79 s at 832x480, 81 frames, and a tenth."""
    return 0.3 + 1.1 * 2.79 * width * height * frames / (832 * 480 * 81)


def wan_points(width, height, frames, steps, repeats=1, **more):
    """One point for each number of steps; the first warms up with one step."""
    real = frames if frames % 4 == 1 else 4 * (frames // 4) + 1
    step, rest = wan_step_s(width, height, real), wan_rest_s(width, height, real)
    for i, n in enumerate(steps):
        warmup = int(i == 0)
        yield {
            "name": f"wan1.3b-{width}x{height}-{frames}f-{n}s",
            "model": WAN,
            "width": width,
            "height": height,
            "num_frames": frames,
            "num_inference_steps": n,
            "warmup": warmup,
            "warmup_steps": 1,
            "repeats": repeats,
            "estimate_s": round(repeats * (n * step + rest) + warmup * (step + rest), 1),
            **more,
        }


def anchor(name, **more):
    step, rest = wan_step_s(832, 480, 81), wan_rest_s(832, 480, 81)
    warmup = more.get("warmup", 1)
    estimate = 4 * step + rest + warmup * (step + rest)
    return {"name": name, "model": WAN, **ANCHOR, "warmup_steps": 1, "estimate_s": round(estimate, 1), **more}


def session_1():
    yield anchor("anchor-start", estimate_s=LOAD_S + 13)
    for width, height, steps, repeats in SIZES:
        yield from wan_points(width, height, 81, steps, repeats)
    for frames, steps in FRAMES:
        yield from wan_points(1280, 720, frames, steps)
    yield from wan_points(*LARGEST[:2], 81, *LARGEST[2:])
    yield anchor("anchor-end", warmup=0, reserved=True)


def session_4():
    yield anchor("anchor-start", estimate_s=LOAD_S + 13)
    for width, height, steps, repeats in SIZES:
        if repeats < 3 and height < 720:
            yield from wan_points(width, height, 81, steps, 3)
    yield anchor("anchor-end", warmup=0, reserved=True)


def session_5():
    yield anchor("anchor-start", estimate_s=LOAD_S + 13)
    width, height, steps, _ = SIZES[-1]
    for frames, counts in [*FRAMES, (81, steps)]:
        for i, n in enumerate(counts):
            repeats = 2 if (frames, n) in ((48, 8), (81, 4)) else 3  # the longest, for time
            yield from wan_points(width, height, frames, (n,), repeats, warmup=int(i == 0))
    yield anchor("anchor-end", warmup=0, reserved=True)


def default(model, steps, step_s, rest_s, load_s, **more):
    """A model at its default size, all of it on the GPU; the first point loads it and warms up. Mochi's
    linear-quadratic sigmas need two steps."""
    for i, n in enumerate(steps):
        first = i == 0
        yield {
            "name": f"{model}-{n}s" + ("-offload" if more.get("offload") else ""),
            "model": model,
            "num_inference_steps": n,
            "offload": False,
            "warmup": int(first),
            "warmup_steps": 1,
            "estimate_s": round(n * step_s + rest_s + first * (load_s + step_s + rest_s), 1),
            **more,
        }


def session_2():
    lightning = "animatediff-lightning-4step"
    yield {"name": f"{lightning}-4s", "model": lightning, "repeats": 50, "estimate_s": LOAD_S + 51 * 0.75}
    ltx = "ltx-video-0.9.7-dev"  # 30 steps and 4, as it is, twice
    yield {"name": f"{ltx}-30s", "model": ltx, "repeats": 2, "warmup_steps": 2, "estimate_s": LOAD_S + 7 + 2 * 14}
    yield from default("cogvideox-2b", (4, 12), 0.63, 3.9, LOAD_S)
    yield from default("cogvideox-5b", (2, 6), 1.8, 3.9, LOAD_S)
    yield from default("mochi-1-preview", (2, 6), 2.9, 4.2, LOAD_S + 8, warmup_steps=2)
    yield from default("wan2.1-t2v-14b", (2,), 23.4, 8.0, LOAD_S + 8)
    # as the paper ran them, with model CPU offload: 13 and 20 GB to the GPU and back
    yield from default("cogvideox-2b", (4,), 0.63, 10, LOAD_S + 10, offload=True)
    yield from default("cogvideox-5b", (2,), 1.8, 14, LOAD_S + 15, offload=True)


def session_3():
    yield anchor("anchor-start", repeats=2, estimate_s=LOAD_S + 22)
    yield from renamed("float32-vae", wan_points(832, 480, 81, (2,), 3))
    yield from renamed("batch-2", wan_points(832, 480, 81, (2, 4), batch_size=2), 2.0)
    yield from renamed("bfloat16-vae", wan_points(832, 480, 81, (2,), 3, vae_dtype="bfloat16"), 1.0, LOAD_S)
    for kind in ("uniform", "zeros"):
        yield from renamed(kind, wan_points(832, 480, 81, (4,), 2, weights=f"random:0:{kind}"), 1.0, LOAD_S)
    yield anchor("anchor-end", warmup=0, reserved=True, estimate_s=LOAD_S + 9)
    size = {"width": 832, "height": 480}
    yield from renamed("832x480", default("wan2.1-t2v-14b", (2, 4), 6.2, 3.4, LOAD_S + 8, **size))
    yield from default("mochi-1-preview", (2,), 2.9, 4.2, LOAD_S, warmup_steps=2)
    # 61 GB to the GPU and back, as the paper ran it
    yield from default("mochi-1-preview", (2,), 2.9, 40, LOAD_S + 50, offload=True, warmup_steps=2)


def renamed(what, points, slower=1.0, load_s=0.0):
    """The same points under a name of their own, each slower by a factor; the first loads a model."""
    for point in points:
        estimate = round(point["estimate_s"] * slower + load_s, 1)
        yield {**point, "name": f"{what}-{point['name']}", "estimate_s": estimate}
        load_s = 0.0


SESSIONS = {"1": session_1, "2": session_2, "3": session_3, "4": session_4, "5": session_5}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in SESSIONS:
        raise SystemExit(__doc__)
    for point in SESSIONS[sys.argv[1]]():
        print(json.dumps(point))


if __name__ == "__main__":
    main()
