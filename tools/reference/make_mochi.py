"""Makes tests/golden/mochi_*.f64 and *.f32 from the diffusers classes on the tiny model tests/golden/mochi-tiny,
with the weights of random_weights.py, as make_golden.py does and with the versions that it names.

    python tools/reference/make_mochi.py [words of the names]

The same cases are in tests/unit/test_parity_mochi.c. A file holds one output, raw little-endian numbers in C
order; each case also runs untouched in float32, and what is printed says how far that is away.
"""

import diffusers.models.attention_processor as attention_module
import diffusers.models.transformers.transformer_mochi as transformer_module
import diffusers.schedulers.scheduling_flow_match_euler_discrete as scheduler_module
import numpy as np
import torch
import transformers.models.t5.modeling_t5 as t5_module
from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiTransformer3DModel
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from transformers import T5Config, T5EncoderModel

import make_golden as golden
import random_weights as rw

MODEL, SEED = "mochi-tiny", golden.SEED


def wide():
    return golden.wide(attention_module, transformer_module, scheduler_module, t5_module)


def text_encoder(dtype):
    config = T5Config(**golden.config(MODEL, "text_encoder"))
    return rw.fill(T5EncoderModel(config), "text_encoder", SEED).to(dtype).eval()


def transformer(dtype):
    config = golden.config(MODEL, "transformer")
    return rw.fill(MochiTransformer3DModel.from_config(config), "transformer", SEED).to(dtype).eval()


def masks(lengths, width):
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


def transformer_case(latent, width, lengths, timestep):
    """text: noise over all `width` rows; a length for each row of the batch."""

    def run(dtype):
        x = golden.noise("latents", len(lengths), 4, *latent).to(dtype)
        text = golden.noise("text", len(lengths), width, 16).to(dtype)
        t = torch.full((len(lengths),), timestep, dtype=dtype)
        return transformer(dtype)(x, text, t, masks(lengths, width), return_dict=False)[0]

    return run


def decode_case(latent, tiled=False):
    """As MochiPipeline: scaled latents, frames last to the host as [B,F,H,W,C] in 0..1."""

    def run(dtype):
        vae = rw.fill(AutoencoderKLMochi.from_config(golden.config(MODEL, "vae")), "vae", SEED).to(dtype).eval()
        if tiled:
            vae.enable_tiling()
        c = vae.config
        mean, std = (torch.tensor(v, dtype=dtype).view(1, 4, 1, 1, 1) for v in (c.latents_mean, c.latents_std))
        latents = golden.noise("latents", 1, 4, *latent).to(dtype) * std / c.scaling_factor + mean
        video = vae.decode(latents, return_dict=False)[0]
        return (video / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1).contiguous()

    return run


def encode(encoder, length, width, first):
    """Token i is (first + 7 i) mod vocabulary."""
    ids = torch.tensor([[(first + 7 * i) % encoder.config.vocab_size if i < length else 0 for i in range(width)]])
    return encoder(ids, attention_mask=masks([length], width))[0]


def pipeline_case(steps, guidance, latent, width, lengths):
    """MochiPipeline's loop: the latents after each step."""

    def run(dtype):
        encoder, net = text_encoder(dtype), transformer(dtype)
        text = torch.cat([encode(encoder, length, width, 3 + i) for i, length in enumerate(lengths)][::-1])
        mask = masks(lengths[::-1], width)
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(golden.config(MODEL, "scheduler"))
        scheduler.set_timesteps(sigmas=np.array(linear_quadratic_schedule(steps, 0.025)))
        x, samples = golden.noise("latents", 1, 4, *latent).to(dtype), []
        for t in scheduler.timesteps:
            batch = len(lengths)
            v = net(torch.cat([x] * batch), text, t.expand(batch).to(dtype), mask, return_dict=False)[0]
            if batch == 2:
                uncond, cond = v.chunk(2)
                v = uncond + guidance * (cond - uncond)
            x = scheduler.step(v, t, x, return_dict=False)[0]
            samples.append(x)
        return torch.stack(samples)

    return run


CASES = {
    "mochi_transformer.f64": transformer_case((1, 2, 4), 6, [4], 421.5),
    "mochi_transformer_batch.f64": transformer_case((3, 4, 6), 9, [9, 2], 30.25),
    "mochi_decode_1.f32": decode_case((1, 2, 4)),
    "mochi_decode_3.f32": decode_case((3, 2, 2)),
    "mochi_tiles.f32": decode_case((1, 2, 34), tiled=True),
    "mochi_denoise.f64": pipeline_case(4, 4.5, (2, 4, 4), 9, (7, 1)),
    "mochi_denoise_full.f64": pipeline_case(4, 4.5, (2, 4, 4), 8, (8, 3)),  # one prompt fills its rows
    "mochi_denoise_one_pass.f64": pipeline_case(2, 1.0, (1, 4, 4), 6, (4,)),
}


if __name__ == "__main__":
    golden.write(CASES, wide)
