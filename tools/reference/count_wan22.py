"""FLOPs of Wan2.2's classes as PyTorch's FlopCounterMode counts them, on the meta device: the numbers of
tests/unit/test_wan22.c, and the tensors of the VAE's decoder, tests/data/tensors/wan2.2-vae.vae.txt.

    python tools/reference/count_wan22.py [slug]  # with make_golden.py's versions; a few minutes
"""

import json
import pathlib
import sys

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch.utils.flop_counter import FlopCounterMode

MODELS = pathlib.Path(__file__).resolve().parents[2] / "data" / "models"
SIZES = [(832, 480, 81), (1280, 704, 121), (512, 320, 9)]


def load(cls, slug, component):
    config = json.loads((MODELS / slug / component / "config.json").read_text())
    with torch.device("meta"):
        return cls.from_config(config).eval()


def count(call):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    totals = {"linear": 0, "attention": 0, "conv": 0}
    for op, flop in counter.get_flop_counts()["Global"].items():
        name = str(op)
        kind = "conv" if "conv" in name else "attention" if "attention" in name or "bmm" in name else "linear"
        totals[kind] += flop
    return {"flop": sum(totals.values()), **totals}


def latents(width, height, frames, channels, cell):
    return torch.empty(1, channels, (frames - 1) // 4 + 1, height // cell, width // cell, device="meta")


def main():
    text = torch.empty(1, 512, 4096, device="meta")
    for slug, cell in (("wan2.2-t2v-a14b", 8), ("wan2.2-ti2v-5b", 16)):
        if slug not in (sys.argv[1:] or [slug]):
            continue
        index = json.loads((MODELS / slug / "model_index.json").read_text())
        for component in ("transformer", "transformer_2"):
            if component not in index:
                continue
            net = load(WanTransformer3DModel, slug, component)
            print(slug, component, sum(p.numel() for p in net.parameters()), "parameters")
            for size in SIZES:
                x = latents(*size, net.config.in_channels, cell)
                tokens = x.shape[2] * (x.shape[3] // 2) * (x.shape[4] // 2)
                t = torch.empty(1, tokens, device="meta") if index.get("expand_timesteps") else torch.empty(1, device="meta")
                print(slug, component, size, tokens, "tokens", count(lambda: net(x, t, text, return_dict=False)))
        vae = load(AutoencoderKLWan, slug, "vae")
        print(slug, "vae", sum(p.numel() for p in vae.parameters()), "parameters")
        for size in SIZES:
            z = latents(*size, vae.config.z_dim, cell)
            print(slug, "decode", size, count(lambda: vae.decode(z, return_dict=False)))
        if index.get("expand_timesteps"):
            used = {n: p.shape for n, p in vae.named_parameters() if n.startswith(("decoder.", "post_quant"))}
            total = sum(s.numel() for s in used.values())
            print(f"# AutoencoderKLWan, Wan2.2: decoder and post_quant_conv, {len(used)} tensors, {total} parameters")
            for name, shape in used.items():
                print(name, *shape)


if __name__ == "__main__":
    main()
