"""The plans of the H200 data set: python stacks/diffusers/h200.py 1|2|3 > PLAN.jsonl

Three sessions of about 450 s each: (1) the WAN2.1-1.3B sweeps, (2) the other models as the paper ran
them, (3) side experiments. The most important comes first within a session, as run.py leaves out what no
longer fits. Long runs are made with two small numbers of steps: steps are alike, so the rest follows
from the slope. Estimates are rounded up from forward passes and decodes timed once on that card
(data/published/h200_diffusers040.csv and notes in README.md).
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


SESSIONS = {"1": session_1}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in SESSIONS:
        raise SystemExit(__doc__)
    for point in SESSIONS[sys.argv[1]]():
        print(json.dumps(point))


if __name__ == "__main__":
    main()
