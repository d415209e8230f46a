"""CogVideoX: CogVideoXPipeline. Guidance is one pass of batch 2; text and video are one sequence."""

import common
import diffusers
import torch

# As arXiv 2509.19222 ran it: bfloat16 throughout, VAE tiling, and model CPU offload inside what is timed.
DEFAULTS = {
    "width": 720,
    "height": 480,
    "num_frames": 49,
    "num_inference_steps": 50,
    "guidance_scale": 6.0,
    "vae_dtype": "bfloat16",
    "tiling": True,
    "offload": True,
    "output_type": "pil",
}


def build(folder, settings, stages):
    dtypes = {"": torch.bfloat16, "vae": common.DTYPES[settings.vae_dtype]}
    parts = common.components(folder, dtypes, settings.weights)
    tokenizer = common.Tokenizer(parts["text_encoder"].config.vocab_size, 226)
    pipe = diffusers.CogVideoXPipeline(tokenizer=tokenizer, **parts)
    stages.watch(pipe)
    return pipe


def generate(pipe, request, stages):
    return pipe(**request).frames
