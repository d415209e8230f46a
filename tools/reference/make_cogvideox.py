"""Makes tests/golden/cogvideox_*.f64 and *.f32 from the diffusers classes on the tiny models
tests/golden/cogvideox-tiny and cogvideox-tiny-rotary, with the weights of random_weights.py, as make_golden.py
does and with the versions that it names.

    python tools/reference/make_cogvideox.py [words of the names]

The same cases are in tests/unit/test_parity_cogvideox.c. Latents are noise [B,C,T,h,w] here as there; the
classes take them as [B,T,C,h,w].
"""

import contextlib
import functools

import diffusers.models.embeddings as embeddings
import diffusers.pipelines.cogvideo.pipeline_cogvideox as pipeline_module
import torch
import transformers.models.t5.modeling_t5 as t5_module
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from transformers import T5Config, T5EncoderModel

import make_golden as golden
import random_weights as rw

SEED = golden.SEED


def text_encoder(model, dtype):
    config = T5Config(**golden.config(model, "text_encoder"))
    return rw.fill(T5EncoderModel(config), "text_encoder", SEED).to(dtype).eval()


def transformer(model, dtype):
    config = golden.config(model, "transformer")
    return rw.fill(CogVideoXTransformer3DModel.from_config(config), "transformer", SEED).to(dtype).eval()


def vae(model, dtype):
    config = golden.config(model, "vae")
    return rw.fill(AutoencoderKLCogVideoX.from_config(config), "vae", SEED).to(dtype).eval()


def pipeline(model, net):
    """What the pipeline's methods read of it, without its tokenizer."""
    p = object.__new__(pipeline_module.CogVideoXPipeline)
    object.__setattr__(p, "transformer", net)
    object.__setattr__(p, "vae_scale_factor_spatial", 8)
    return p


def rotary(model, net, latent):
    if not net.config.use_rotary_positional_embeddings:
        return None
    frames, height, width = latent
    prepare = pipeline_module.CogVideoXPipeline._prepare_rotary_positional_embeddings
    return prepare(pipeline(model, net), 8 * height, 8 * width, frames, "cpu")


def forward(model, net, x, text, t, latent):
    """x [B,C,T,h,w]"""
    v = net(x.transpose(1, 2), text, t, image_rotary_emb=rotary(model, net, latent), return_dict=False)[0]
    return v.transpose(1, 2)


def transformer_case(model, latent, width, timestep, batch=1):
    def run(dtype):
        net = transformer(model, dtype)
        net.patch_embed.max_text_seq_length = width
        net.patch_embed.sample_height = 0  # always makes the positions anew
        x = golden.noise("latents", batch, net.config.in_channels, *latent).to(dtype)
        text = golden.noise("text", batch, width, net.config.text_embed_dim).to(dtype)
        return forward(model, net, x, text, torch.full((batch,), timestep), latent).contiguous()

    return run


def decode_case(model, latent, tiled=False, frames=None):
    """frames: those that the file holds."""

    def run(dtype):
        net = vae(model, dtype)
        if tiled:
            net.enable_tiling()
        x = golden.noise("latents", 1, net.config.latent_channels, *latent).to(dtype)
        video = net.decode(1 / net.config.scaling_factor * x).sample.clamp(-1, 1)
        video = (video / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1)
        return (video if frames is None else video[:, frames]).contiguous()

    return run


def encode(encoder, length, width, first, stride):
    """As CogVideoXPipeline: no mask."""
    ids = [(first + stride * i) % encoder.config.vocab_size if i < length else 0 for i in range(width)]
    return encoder(torch.tensor([ids]))[0]


def pipeline_case(model, steps, guidance, latent, width, lengths):
    """The pipeline's loop: the latents after each step."""

    def run(dtype):
        encoder, net = text_encoder(model, dtype), transformer(model, dtype)
        net.patch_embed.max_text_seq_length = width
        net.patch_embed.sample_height = 0
        texts = [encode(encoder, length, width, 3 + i, 7) for i, length in enumerate(lengths)]
        text = torch.cat(texts[::-1])
        scheduler = CogVideoXDDIMScheduler.from_config(golden.config(model, "scheduler"))
        scheduler.set_timesteps(steps)
        x, samples = golden.noise("latents", 1, net.config.in_channels, *latent).to(dtype), []
        for t in scheduler.timesteps:
            v = forward(model, net, torch.cat([x] * len(texts)), text, t.expand(len(texts)), latent)
            if len(texts) == 2:
                uncond, cond = v.chunk(2)
                v = uncond + guidance * (cond - uncond)
            x = scheduler.step(v, t, x, return_dict=False)[0].to(dtype)
            samples.append(x)
        return torch.stack(samples)

    return run


TINY, ROTARY = "cogvideox-tiny", "cogvideox-tiny-rotary"
CASES = {
    "cogvideox_transformer.f64": transformer_case(TINY, (1, 2, 4), 6, 999),
    "cogvideox_transformer_batch.f64": transformer_case(TINY, (3, 4, 2), 5, 421, batch=2),
    "cogvideox_transformer_rotary.f64": transformer_case(ROTARY, (2, 8, 12), 5, 37),  # the size of training
    "cogvideox_transformer_rotary_tall.f64": transformer_case(ROTARY, (2, 6, 2), 3, 700),
    "cogvideox_transformer_rotary_wide.f64": transformer_case(ROTARY, (1, 4, 14), 3, 700),
    "cogvideox_decode_1.f32": decode_case(TINY, (1, 2, 4)),
    "cogvideox_decode_2.f32": decode_case(TINY, (2, 2, 2)),  # 8 frames
    "cogvideox_decode_5.f32": decode_case(TINY, (5, 2, 2)),
    "cogvideox_decode_6.f32": decode_case(ROTARY, (6, 2, 2)),
    "cogvideox_tiled.f32": decode_case(ROTARY, (5, 6, 6), tiled=True, frames=[0, -1]),
    "cogvideox_tiled_rows.f32": decode_case(TINY, (1, 12, 4), tiled=True),  # one column
    "cogvideox_denoise.f64": pipeline_case(TINY, 4, 6.0, (2, 4, 2), 9, (7, 1)),
    "cogvideox_denoise_rotary.f64": pipeline_case(ROTARY, 4, 6.0, (2, 4, 4), 8, (8, 3)),
    "cogvideox_denoise_one_pass.f64": pipeline_case(ROTARY, 2, 1.0, (1, 4, 4), 6, (4,)),
}


@contextlib.contextmanager
def wide():
    """make_golden's; the default of rotary frequencies is float32."""
    narrow = embeddings.get_1d_rotary_pos_embed
    with golden.wide(t5_module):
        embeddings.get_1d_rotary_pos_embed = functools.partial(narrow, freqs_dtype=torch.float64)
        try:
            yield
        finally:
            embeddings.get_1d_rotary_pos_embed = narrow


if __name__ == "__main__":
    golden.write(CASES, wide)
