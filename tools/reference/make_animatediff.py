"""Makes tests/golden/animatediff_*.f64 and *.f32 from the diffusers classes on the tiny model
tests/golden/animatediff-tiny, with the weights of random_weights.py, as make_golden.py does and with the versions
that it names.

    python tools/reference/make_animatediff.py [words of the names]

The same cases are in tests/unit/test_parity_animatediff.c. A file holds one output, raw little-endian numbers in C
order; each case also runs untouched in float32, and what is printed says how far that is away.
"""

import diffusers.schedulers.scheduling_euler_discrete as scheduler_module
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from transformers import CLIPTextConfig, CLIPTextModel

import make_golden as golden
import random_weights as rw

MODEL, SEED = "animatediff-tiny", golden.SEED


def wide():
    return golden.wide(scheduler_module)


def text_encoder(dtype):
    """Filled by the names that checkpoints have: newer classes have dropped a prefix."""
    encoder = CLIPTextModel(CLIPTextConfig(**golden.config(MODEL, "text_encoder")))
    for name, parameter in encoder.named_parameters():
        full = name if name.startswith("text_model.") else "text_model." + name
        parameter.copy_(torch.from_numpy(rw.weight("text_encoder", full, tuple(parameter.shape), SEED)))
    return encoder.to(dtype).eval()


def unet(dtype):
    plain = rw.fill(UNet2DConditionModel.from_config(golden.config(MODEL, "unet")), "unet", SEED)
    motion = rw.fill(MotionAdapter.from_config(golden.config(MODEL, "motion_adapter")), "motion_adapter", SEED)
    net = UNetMotionModel.from_unet2d(plain, motion).to(dtype).eval()
    for module in net.modules():  # its table of positions is computed in float32
        if type(module).__name__ == "SinusoidalPositionalEmbedding" and dtype == torch.float64:
            rows, width = module.pe.shape[1:]
            angle = torch.arange(rows, dtype=dtype)[:, None] * 10000.0 ** (-torch.arange(0, width, 2, dtype=dtype) / width)
            module.pe[0, :, 0::2], module.pe[0, :, 1::2] = angle.sin(), angle.cos()
    return net


def frames_of(text, frames):
    return text.repeat_interleave(frames, dim=0)


def scheduler(steps, dtype):
    made = EulerDiscreteScheduler.from_config(golden.config(MODEL, "scheduler"))
    if dtype == torch.float64:  # its schedule is made in float32 too
        c = made.config
        betas = torch.linspace(c.beta_start, c.beta_end, c.num_train_timesteps, dtype=dtype)
        made.alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    made.set_timesteps(steps)
    return made


def unet_case(latent, width, timestep, batch=1):
    """Noise as the one step of a schedule gives it, but for the timestep. text: noise over all `width` rows, those of
    each frame its own."""

    def run(dtype):
        one = scheduler(1, dtype)
        x = golden.noise("latents", batch, 4, *latent).to(dtype) * one.init_noise_sigma
        x = one.scale_model_input(x, one.timesteps[0])
        text = golden.noise("text", batch * latent[0], width, 16).to(dtype)
        return unet(dtype)(x, torch.full((batch,), timestep, dtype=dtype), text, return_dict=False)[0]

    return run


def decode_case(latent, batch=1, tiled=False):
    """As AnimateDiffPipeline: 16 images at a time, frames last to the host as [B,F,H,W,C] in 0..1."""

    def run(dtype):
        vae = rw.fill(AutoencoderKL.from_config(golden.config(MODEL, "vae")), "vae", SEED).to(dtype).eval()
        if tiled:
            vae.enable_tiling()
        z = golden.noise("latents", batch, 4, *latent).to(dtype) / vae.config.scaling_factor
        z = z.permute(0, 2, 1, 3, 4).flatten(0, 1)
        video = torch.cat([vae.decode(z[i : i + 16], return_dict=False)[0] for i in range(0, len(z), 16)])
        return (video / 2 + 0.5).clamp(0, 1).unflatten(0, (batch, latent[0])).permute(0, 1, 3, 4, 2).contiguous()

    return run


def encode(encoder, length, width, first):
    """Token i is (first + 7 i) mod vocabulary; no mask."""
    ids = torch.tensor([[(first + 7 * i) % encoder.config.vocab_size if i < length else 0 for i in range(width)]])
    return encoder(ids)[0]


def pipeline_case(steps, guidance, latent, width, lengths):
    """AnimateDiffPipeline's loop: the latents after each step."""

    def run(dtype):
        encoder, net = text_encoder(dtype), unet(dtype)
        text = torch.cat([encode(encoder, length, width, 3 + i) for i, length in enumerate(lengths)][::-1])
        text = frames_of(text, latent[0])
        solver = scheduler(steps, dtype)
        x, samples = golden.noise("latents", 1, 4, *latent).to(dtype) * solver.init_noise_sigma, []
        for t in solver.timesteps:
            scaled = solver.scale_model_input(torch.cat([x] * len(lengths)), t)
            noise = net(scaled, t, text, return_dict=False)[0]
            if len(lengths) == 2:
                uncond, cond = noise.chunk(2)
                noise = uncond + guidance * (cond - uncond)
            x = solver.step(noise, t, x, return_dict=False)[0]
            samples.append(x)
        return torch.stack(samples)

    return run


CASES = {
    "animatediff_unet.f64": unet_case((2, 8, 8), 6, 749.0),
    "animatediff_unet_odd.f64": unet_case((3, 5, 10), 5, 31.0),  # sizes that halve with a rest
    "animatediff_unet_batch.f64": unet_case((2, 8, 8), 4, 499.0, batch=2),
    "animatediff_decode_1.f32": decode_case((1, 2, 3)),
    "animatediff_decode_18.f32": decode_case((18, 2, 2)),  # a call of 16, a call of 2
    "animatediff_decode_batch.f32": decode_case((9, 1, 2), batch=2),
    "animatediff_tiles.f32": decode_case((1, 9, 14), tiled=True),
    "animatediff_denoise.f64": pipeline_case(4, 1.0, (2, 4, 4), 7, (5,)),
    "animatediff_denoise_guided.f64": pipeline_case(4, 7.5, (2, 4, 4), 7, (5, 2)),
}


if __name__ == "__main__":
    golden.write(CASES, wide)
