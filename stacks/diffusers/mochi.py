"""Mochi 1: MochiPipeline. Guidance is one pass of batch 2; attention takes only a prompt's real tokens."""

import common
import diffusers
import torch

# As arXiv 2509.19222 ran it: float32 weights under bfloat16 autocast whose cache is off, so each product casts
# its weights again; VAE tiling; model CPU offload inside what is timed. 84 frames asked for, 79 come out.
DEFAULTS = {
    "width": 848,
    "height": 480,
    "num_frames": 84,
    "num_inference_steps": 64,
    "guidance_scale": 4.5,
    "vae_dtype": "float32",
    "tiling": True,
    "offload": True,
    "output_type": "pil",
}


def build(folder, settings, stages):
    dtypes = {"": torch.float32, "vae": common.DTYPES[settings.vae_dtype]}
    parts = common.components(folder, dtypes, settings.weights)
    tokenizer = common.Tokenizer(parts["text_encoder"].config.vocab_size, 256)
    pipe = diffusers.MochiPipeline(tokenizer=tokenizer, **parts)
    stages.watch(pipe)
    return pipe


def generate(pipe, request, stages):
    with torch.autocast(common.DEVICE, torch.bfloat16, cache_enabled=False):
        return pipe(**request).frames
