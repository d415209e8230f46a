"""WAN2.1-T2V-1.3B on the CPU: diffusers with PyTorch against the native engine, in turn, in one run.

    python tools/reference/compare_speed.py BUILD [ROUNDS]

One transformer forward and one VAE decode of 256x256, 17 frames, in bf16, random weights on the PyTorch
side (its speed does not depend on them), 512 text rows. BUILD/bench/engine is run between the rounds.
Needs diffusers 0.40 and PyTorch; prints seconds and ratios. Take care that nothing else runs.
"""

import json
import os
import re
import subprocess
import sys
import time

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
MODEL = os.path.join(ROOT, "data", "models", "wan2.1-t2v-1.3b")


def build(cls, component, dtype):
    with open(os.path.join(MODEL, component, "config.json")) as file:
        config = json.load(file)
    with torch.device("meta"):
        model = cls.from_config(config)
    model = model.to_empty(device="cpu").to(dtype).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.02)
    return model


def least(values):  # as bench/engine does: others share the machine
    return min(values)


def main():
    build_dir, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    dtype = torch.bfloat16
    transformer, vae = build(WanTransformer3DModel, "transformer", dtype), build(AutoencoderKLWan, "vae", dtype)
    # rotary tables are buffers that to_empty leaves undefined: made again
    transformer.rope = type(transformer.rope)(128, (1, 2, 2), 1024)
    latents, text = torch.randn(1, 16, 5, 32, 32, dtype=dtype), torch.randn(1, 512, 4096, dtype=dtype)
    theirs, ours = {"denoise": [], "decode": []}, {"denoise": [], "decode": []}
    with torch.no_grad():
        for r in range(rounds + 1):  # the first warms up
            start = time.monotonic()
            transformer(latents, torch.tensor([500]), text, return_dict=False)
            middle = time.monotonic()
            vae.decode(latents, return_dict=False)
            end = time.monotonic()
            out = subprocess.run([os.path.join(build_dir, "bench", "engine")], capture_output=True, text=True, check=True)
            if r == 0:
                print(out.stdout)
                continue
            theirs["denoise"].append(middle - start)
            theirs["decode"].append(end - middle)
            for stage in ours:
                ours[stage].append(float(re.search(stage + r"[^\n]*?([0-9.]+) s", out.stdout).group(1)))
    print("PyTorch", torch.__version__, "threads", torch.get_num_threads())
    for stage in ours:
        a, b = least(ours[stage]), least(theirs[stage])
        print(f"{stage}: ours {a:.3f} s, diffusers {b:.3f} s, ratio {a / b:.2f};", ours[stage], theirs[stage])


if __name__ == "__main__":
    main()
