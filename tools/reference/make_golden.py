"""Makes tests/golden/*.f64 and *.f32 from the diffusers and transformers classes on the tiny models
there, with the weights of random_weights.py.

    pip install diffusers==0.40.0 transformers==5.24.0 torch==2.11.0 ftfy
    python tools/reference/make_golden.py

A file holds one output, raw little-endian numbers in C order; cases and inputs are written out below
and again in tests/unit/test_parity.c. The classes run in float64. Where their code says float32
whatever the model's dtype (norms, the timestep's sinusoid, ...) that is widened to float64 as well, so
a file is what the code means without its rounding; `wide` does it. Each case also runs untouched in
float32, and golden.json keeps how far that is away: the distance that rounding alone makes.
"""

import contextlib
import json
import pathlib
import sys

import diffusers
import numpy as np
import torch
import transformers
import diffusers.models.autoencoders.autoencoder_kl_wan as vae_module
import diffusers.models.embeddings as embeddings
import diffusers.models.normalization as normalization
import diffusers.models.transformers.transformer_wan as transformer_module
import diffusers.schedulers.scheduling_unipc_multistep as unipc_module
import transformers.models.umt5.modeling_umt5 as umt5_module
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

import random_weights as rw

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
SEED = 1


class Wide:
    """A module whose float32 is float64."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, "float64" if name == "float32" else name)


@contextlib.contextmanager
def wide(*modules):
    """In WAN's modules and these."""
    narrow = torch.Tensor.float
    patched = [(m, n, getattr(m, n)) for m in (vae_module, embeddings, normalization, transformer_module,
               unipc_module, umt5_module, *modules) for n in ("torch", "np") if hasattr(m, n)]
    torch.Tensor.float = lambda t: t if t.dtype == torch.float64 else narrow(t)
    # an integer timestep becomes float32 on its way, exactly
    for module, name, original in patched:
        setattr(module, name, Wide(original))
    try:
        yield
    finally:
        torch.Tensor.float = narrow
        for module, name, original in patched:
            setattr(module, name, original)


def config(model, component):
    file = "scheduler_config.json" if component == "scheduler" else "config.json"
    return json.loads((GOLDEN / model / component / file).read_text())


def noise(name, *shape):
    return torch.from_numpy(rw.noise(name, shape, SEED))


# ---- The components; dtype is float64 (inside wide()) or float32 ----


def text_encoder(model, dtype):
    return rw.fill(UMT5EncoderModel(UMT5Config(**config(model, "text_encoder"))), "text_encoder", SEED).to(dtype).eval()


def transformer(model, dtype):
    return rw.fill(WanTransformer3DModel.from_config(config(model, "transformer")), "transformer", SEED).to(dtype).eval()


def encode(encoder, length, width, first, stride):
    """Token i is (first + stride * i) mod vocabulary. As WanPipeline: the real tokens' rows, then zeros."""
    ids = torch.tensor([[(first + stride * i) % encoder.config.vocab_size if i < length else 0 for i in range(width)]])
    mask = (torch.arange(width) < length).long()[None]
    hidden = encoder(ids, mask).last_hidden_state[:, :length]
    return torch.cat([hidden, hidden.new_zeros(1, width - length, hidden.shape[2])], dim=1)


def text_case(model, length, width, first, stride):
    return lambda dtype: encode(text_encoder(model, dtype), length, width, first, stride)


def transformer_case(model, latent, width, timestep, batch=1):
    """latent: T h w; text: noise over all `width` rows."""

    def run(dtype):
        net = transformer(model, dtype)
        x = noise("latents", batch, 4, *latent).to(dtype)
        text = noise("text", batch, width, net.config.text_dim).to(dtype)
        return net(x, torch.full((batch,), timestep), text, return_dict=False)[0]

    return run


def upsample_all(self, x, feat_cache=None, feat_idx=None):
    """WanResample.forward for all frames at once: the first frame skips time_conv, the others follow a
    history of zeros."""
    if self.mode == "upsample3d":
        first, rest = x[:, :, :1], self.time_conv(x[:, :, 1:])
        b, _, t, h, w = rest.shape
        rest = rest.reshape(b, 2, -1, t, h, w)
        rest = torch.stack((rest[:, 0], rest[:, 1]), 3).reshape(b, -1, 2 * t, h, w)
        x = torch.cat([first, rest], dim=2)
    frames = [self.resample(x[:, :, i]) for i in range(x.shape[2])]
    return torch.stack(frames, dim=2)


def decode_uncached(vae, z):
    """vae.decode without its caches: every causal convolution sees all frames in one call."""
    cached = vae_module.WanResample.forward
    vae_module.WanResample.forward = upsample_all
    try:
        return vae.decoder(vae.post_quant_conv(z)).clamp(-1, 1)
    finally:
        vae_module.WanResample.forward = cached


def decode(model, latents, dtype, uncached=False):
    """As WanPipeline: scaled latents, clamped, frames last to the host as [B,F,H,W,C] in 0..1."""
    vae = rw.fill(AutoencoderKLWan.from_config(config(model, "vae")), "vae", SEED).to(dtype).eval()
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean, dtype=dtype).view(shape)
    std = 1.0 / torch.tensor(vae.config.latents_std, dtype=dtype).view(shape)
    z = latents.to(dtype) / std + mean
    video = decode_uncached(vae, z) if uncached else vae.decode(z, return_dict=False)[0]
    return (video / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1)


def decode_case(model, latent, uncached=False):
    return lambda dtype: decode(model, noise("latents", 1, 4, *latent), dtype, uncached)


def solver_case(model, steps):
    """The samples after each step for the model output v = sin(3 x) + t / 1000."""

    def run(dtype):
        scheduler = UniPCMultistepScheduler.from_config(config(model, "scheduler"))
        scheduler.set_timesteps(steps)
        x, samples = noise("latents", 1, 8).to(dtype), []
        for t in scheduler.timesteps:
            x = scheduler.step(torch.sin(3 * x) + t.to(dtype) / 1000, t, x, return_dict=False)[0]
            samples.append(x)
        return torch.stack(samples)

    return run


def pipeline_case(model, steps, guidance, latent, width, lengths):
    """WanPipeline's loop: both prompts encoded, the latents after each step."""

    def run(dtype):
        encoder, net = text_encoder(model, dtype), transformer(model, dtype)
        texts = [encode(encoder, length, width, 3 + i, 7) for i, length in enumerate(lengths)]
        scheduler = UniPCMultistepScheduler.from_config(config(model, "scheduler"))
        scheduler.set_timesteps(steps)
        x, samples = noise("latents", 1, 4, *latent).to(dtype), []
        for t in scheduler.timesteps:
            v = [net(x, t.expand(1), text, return_dict=False)[0] for text in texts]
            v = v[0] if len(v) == 1 else v[1] + guidance * (v[0] - v[1])
            x = scheduler.step(v, t, x, return_dict=False)[0]
            samples.append(x)
        return torch.stack(samples)

    return run


CASES = {
    "text_short.f64": text_case("wan-tiny", 7, 12, 3, 7),
    "text_long.f32": text_case("wan-tiny", 150, 160, 5, 11),  # beyond the largest bucket distance
    "text_128.f64": text_case("wan-tiny-128", 40, 40, 1, 13),  # no padding
    "transformer_a.f64": transformer_case("wan-tiny", (1, 2, 4), 12, 999),
    "transformer_b.f64": transformer_case("wan-tiny", (3, 4, 6), 12, 421, batch=2),
    "transformer_128.f64": transformer_case("wan-tiny-128", (2, 6, 4), 5, 37),
    "decode_1.f32": decode_case("wan-tiny", (1, 2, 3)),
    "decode_2.f32": decode_case("wan-tiny", (2, 1, 2)),
    "decode_3.f32": decode_case("wan-tiny", (3, 2, 2)),
    "decode_6.f32": decode_case("wan-tiny", (6, 1, 2)),
    "decode_6_uncached.f32": decode_case("wan-tiny", (6, 1, 2), uncached=True),
    "decode_128.f32": decode_case("wan-tiny-128", (3, 1, 2)),
    # wan-tiny has flow_shift 3, wan-tiny-128 has 5
    "solver_1.f64": solver_case("wan-tiny", 1),
    "solver_2.f64": solver_case("wan-tiny", 2),
    "solver_3.f64": solver_case("wan-tiny", 3),
    "solver_10.f64": solver_case("wan-tiny", 10),
    "solver_50.f64": solver_case("wan-tiny", 50),
    "solver_1_shift_5.f64": solver_case("wan-tiny-128", 1),
    "solver_2_shift_5.f64": solver_case("wan-tiny-128", 2),
    "solver_3_shift_5.f64": solver_case("wan-tiny-128", 3),
    "solver_10_shift_5.f64": solver_case("wan-tiny-128", 10),
    "solver_50_shift_5.f64": solver_case("wan-tiny-128", 50),
    "denoise.f64": pipeline_case("wan-tiny", 4, 5.0, (2, 4, 4), 12, (7, 1)),
    "denoise_128.f64": pipeline_case("wan-tiny-128", 4, 5.0, (2, 4, 4), 8, (8, 3)),  # one prompt fills its rows
    "denoise_one_pass.f64": pipeline_case("wan-tiny-128", 2, 1.0, (1, 4, 4), 6, (4,)),
}


def write(cases, wide=wide):
    """Makes the files of the cases whose names hold one of the command's words; what is known of them, by name."""
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    report = {}
    for name, run in cases.items():
        if len(sys.argv) > 1 and not any(word in name for word in sys.argv[1:]):
            continue
        with wide():
            exact = run(torch.float64)
        assert exact.dtype == torch.float64
        single = run(torch.float32).double()
        exact.numpy().astype("<f8" if name.endswith("f64") else "<f4").tofile(GOLDEN / name)
        report[name] = {"shape": list(exact.shape), "norm": float(exact.norm()),
                        "float32_distance": float((single - exact).norm() / exact.norm())}
        print(name, report[name])
    return report


def main():
    report = write(CASES)
    if len(sys.argv) == 1:
        versions = {"diffusers": diffusers.__version__,
                    "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
        (GOLDEN / "golden.json").write_text(json.dumps({"seed": SEED, "made_with": versions, "cases": report}, indent=1) + "\n")


if __name__ == "__main__":
    main()
