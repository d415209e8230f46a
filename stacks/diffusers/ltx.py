"""LTX-Video 0.9.7: three stages. LTXConditionPipeline makes the clip at two thirds of the size asked for,
LTXLatentUpsamplePipeline doubles its latents, LTXConditionPipeline adds noise again and refines them.

Both calls of LTXConditionPipeline encode both prompts. Sizes are rounded down to what the VAE can hold, so the frames
that come out are larger than asked for (704x512: 896x640); scaling them down is left out, as the paper did.
"""

import common
import diffusers
import torch
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel

# As arXiv 2509.19222 ran it: bfloat16, VAE tiling, all of it on the GPU.
DEFAULTS = {
    "width": 704,
    "height": 512,
    "num_frames": 121,
    "num_inference_steps": 30,
    "guidance_scale": 3.0,
    "vae_dtype": "bfloat16",
    "tiling": True,
    "offload": False,
    "output_type": "pil",
}
DOWNSCALE = 2 / 3
REFINE = {"num_inference_steps": 10, "denoise_strength": 0.4, "decode_timestep": 0.05, "image_cond_noise_scale": 0.025}


def build(folder, settings, stages):
    dtypes = {"": torch.bfloat16, "vae": common.DTYPES[settings.vae_dtype]}
    parts = common.components(folder, dtypes, settings.weights)
    tokenizer = common.Tokenizer(parts["text_encoder"].config.vocab_size, 256)
    pipe = diffusers.LTXConditionPipeline(tokenizer=tokenizer, **parts)
    model = common.component(folder, "latent_upsampler", LTXLatentUpsamplerModel, torch.bfloat16, settings.weights)
    pipe.upsampler = diffusers.LTXLatentUpsamplePipeline(vae=pipe.vae, latent_upsampler=model)
    stages.watch(pipe)
    return pipe


def generate(pipe, request, stages):
    multiple = pipe.vae_spatial_compression_ratio
    small = {name: int(request[name] * DOWNSCALE) // multiple * multiple for name in ("width", "height")}
    large = {name: 2 * size for name, size in small.items()}

    stages.denoise = "denoise"
    latents = pipe(**{**request, **small, "output_type": "latent"}).frames
    stages.enter("upscale")
    latents = pipe.upsampler(latents=latents, output_type="latent").frames
    stages.denoise = "refine"
    return pipe(**{**request, **large, **REFINE, "latents": latents}).frames
