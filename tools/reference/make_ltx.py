"""Makes tests/golden/ltx_*.f64 and *.f32 from the diffusers classes and pipelines on the tiny model
tests/golden/ltx-tiny, with the weights of random_weights.py, as make_golden.py does and with the versions that it
names.

    python tools/reference/make_ltx.py [words of the names]

The same cases are in tests/unit/test_parity_ltx.c. A file holds one output, raw little-endian numbers in C
order, of frames each EVERY-th; each case also runs untouched in float32, and what is printed says how far that is
away. Positions are float32 in the class whatever the dtype, which turns the highest frequency by up to 1e-3: that is
kept, and `rope` says so.
"""

import contextlib
import math
import types

import diffusers.models.autoencoders.autoencoder_kl_ltx as vae_module
import diffusers.models.transformers.transformer_ltx as transformer_module
import diffusers.pipelines.ltx.pipeline_ltx_condition as condition_module
import diffusers.pipelines.ltx.pipeline_ltx_latent_upsample as upsample_module
import diffusers.schedulers.scheduling_flow_match_euler_discrete as scheduler_module
import torch
import transformers.models.t5.modeling_t5 as t5_module
from diffusers import (AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXConditionPipeline,
                       LTXLatentUpsamplePipeline, LTXVideoTransformer3DModel)
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from transformers import T5Config, T5EncoderModel

import make_golden as golden
import random_weights as rw

MODEL, SEED, EVERY = "ltx-tiny", golden.SEED, 11
narrow_rope = transformer_module.LTXVideoRotaryPosEmbed.forward


def rope(self, hidden_states, num_frames=None, height=None, width=None, rope_interpolation_scale=None,
         video_coords=None):
    """The class's angles, rounded as it rounds them, with their cosines and sines in float64."""
    bases = torch.tensor([self.base_num_frames, self.base_height, self.base_width], dtype=torch.float32)
    grid = video_coords.to(torch.float32).transpose(1, 2) / bases
    powers = torch.linspace(0, 1, self.dim // 6, dtype=torch.float32)
    angles = self.theta**powers * math.pi / 2.0 * (grid.unsqueeze(-1) * 2 - 1)
    angles = angles.transpose(-1, -2).flatten(2).repeat_interleave(2, -1)
    pad = self.dim % 6
    cos = torch.cat([torch.ones_like(angles[..., :pad]).double(), angles.double().cos()], -1)
    sin = torch.cat([torch.zeros_like(angles[..., :pad]).double(), angles.double().sin()], -1)
    wanted = narrow_rope(self, hidden_states.to(torch.float32), video_coords=video_coords.to(torch.float32))
    assert all((a - b).abs().max() < 1e-6 for a, b in zip((cos, sin), wanted))
    return cos, sin


@contextlib.contextmanager
def wide():
    """make_golden's, in these classes' modules too; the schedule is made in the default dtype."""
    with golden.wide(vae_module, condition_module, upsample_module, scheduler_module, t5_module):
        transformer_module.torch = torch  # of which rope alone says float32
        transformer_module.LTXVideoRotaryPosEmbed.forward = rope
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)
            transformer_module.LTXVideoRotaryPosEmbed.forward = narrow_rope


def text_encoder(dtype):
    config = T5Config(**golden.config(MODEL, "text_encoder"))
    return rw.fill(T5EncoderModel(config), "text_encoder", SEED).to(dtype).eval()


def transformer(dtype):
    config = golden.config(MODEL, "transformer")
    return rw.fill(LTXVideoTransformer3DModel.from_config(config), "transformer", SEED).to(dtype).eval()


def autoencoder(dtype):
    vae = rw.fill(AutoencoderKLLTXVideo.from_config(golden.config(MODEL, "vae")), "vae", SEED).to(dtype).eval()
    for name in ("latents_mean", "latents_std"):
        buffer = getattr(vae, name)
        buffer.copy_(torch.from_numpy(rw.weight("vae", name, tuple(buffer.shape), SEED)))
    return vae


def upsampler(dtype):
    model = LTXLatentUpsamplerModel.from_config(golden.config(MODEL, "latent_upsampler"))
    return LTXLatentUpsamplePipeline(autoencoder(dtype), rw.fill(model, "latent_upsampler", SEED).to(dtype).eval())


class Tokenizer:
    """Token i of the p-th prompt is (3 + p + 7 i) mod vocabulary; a prompt is "p length"."""

    model_max_length = 256

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def __call__(self, prompts, padding, max_length=None, **_):
        which, length = map(int, prompts[0].split())
        width = max_length if padding == "max_length" else length
        ids = [(3 + which + 7 * i) % self.vocabulary if i < length else 0 for i in range(width)]
        mask = torch.arange(width)[None] < length
        return types.SimpleNamespace(input_ids=torch.tensor([ids]), attention_mask=mask.long())


def transformer_case(latent, width, lengths, timestep):
    """Noise in, text all `width` rows of noise, of which each row of the batch has `lengths`."""

    def run(dtype):
        net, batch = transformer(dtype), len(lengths)
        x = golden.noise("noise_small", batch, 4, *latent).to(dtype)
        text = golden.noise("text", batch, width, 16).to(dtype)
        mask = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
        coords = LTXConditionPipeline._scale_video_ids(LTXConditionPipeline._prepare_video_ids(batch, *latent)).float()
        coords[:, 0] = coords[:, 0] * (1.0 / 25)
        t = torch.full((batch, 1), timestep, dtype=dtype)
        y = net(LTXConditionPipeline._pack_latents(x), text, t, mask, video_coords=coords, return_dict=False)[0]
        return LTXConditionPipeline._unpack_latents(y, *latent)

    return run


def upscale_case(latent):
    def run(dtype):
        latents = golden.noise("latents_small", 1, 4, *latent).to(dtype)
        return upsampler(dtype)(latents=latents, output_type="latent").frames

    return run


def decode_case(latent, tiled=False):
    """As LTXConditionPipeline with decode_timestep 0.05, frames to the host as [B,F,H,W,C] in 0..1."""

    def run(dtype):
        vae = autoencoder(dtype)
        if tiled:
            vae.enable_tiling()
        x = golden.noise("latents", 1, 4, *latent).to(dtype)
        x = LTXConditionPipeline._denormalize_latents(x, vae.latents_mean, vae.latents_std)
        x = 0.95 * x + 0.05 * golden.noise("noise_decode", 1, 4, *latent).to(dtype)
        video = vae.decode(x, torch.tensor([0.05], dtype=dtype), return_dict=False)[0]
        video = (video / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1)
        return video.contiguous().flatten()[::EVERY]

    return run


def pipeline_case(steps, guidance, small, width, lengths):
    """The three pipelines one after the other: the latents after each step of the first and the last."""
    frames, size = 8 * (small[0] - 1) + 1, [32 * n for n in small[1:]]

    def run(dtype):
        encoder, samples = text_encoder(dtype), []
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(golden.config(MODEL, "scheduler"))
        pipe = LTXConditionPipeline(scheduler, autoencoder(dtype), encoder, Tokenizer(encoder.config.vocab_size),
                                    transformer(dtype))
        pipe.set_progress_bar_config(disable=True)

        def call(noise, height, columns, **more):
            grid = (small[0], height // 32, columns // 32)

            def keep(_, index, timestep, kwargs):
                samples.append(pipe._unpack_latents(kwargs["latents"], *grid).flatten())
                return {}

            condition_module.randn_tensor = lambda shape, dtype=None, **_: golden.noise(noise, *shape).to(dtype)
            return pipe(prompt=f"0 {lengths[0]}", negative_prompt=f"1 {lengths[-1]}", height=height, width=columns,
                        num_frames=frames, guidance_scale=guidance, max_sequence_length=width, output_type="latent",
                        callback_on_step_end=keep, **more).frames

        latents = call("noise_small", *size, num_inference_steps=steps)
        latents = upsampler(dtype)(latents=latents, output_type="latent").frames
        call("latents", *[2 * n for n in size], num_inference_steps=10, denoise_strength=0.4, latents=latents)
        return torch.cat(samples)

    return run


CASES = {
    "ltx_transformer.f64": transformer_case((1, 1, 2), 6, [4], 421.5),
    "ltx_transformer_batch.f64": transformer_case((3, 2, 3), 9, [9, 2], 30.25),
    "ltx_upscale.f64": upscale_case((2, 1, 3)),
    "ltx_decode_1.f32": decode_case((1, 2, 4)),
    "ltx_decode_3.f32": decode_case((3, 2, 2)),
    "ltx_tiles.f32": decode_case((1, 2, 18), tiled=True),
    "ltx_denoise.f64": pipeline_case(4, 3.0, (2, 1, 2), 9, (7, 1)),
    "ltx_denoise_full.f64": pipeline_case(4, 3.0, (2, 2, 1), 8, (8, 3)),  # one prompt fills its rows
    "ltx_denoise_one_pass.f64": pipeline_case(2, 1.0, (1, 1, 2), 6, (4,)),
}


if __name__ == "__main__":
    golden.write(CASES, wide)
