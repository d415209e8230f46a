"""WAN2.1 and Wan2.2 text to video: WanPipeline. Guidance is two passes of batch 1, one after the other."""

import common
import diffusers
import torch

# As arXiv 2509.19222 ran WAN2.1: 720p, shift 5, a float32 VAE without tiling, all of it on the GPU. Wan2.2's shift is
# its folder's.
DEFAULTS = {
    "width": 1280,
    "height": 720,
    "num_frames": 81,
    "num_inference_steps": 50,
    "guidance_scale": 5.0,
    "vae_dtype": "float32",
    "tiling": False,
    "offload": False,
    "output_type": "np",
}
FLOW_SHIFT = 5.0


def build(folder, settings, stages):
    dtypes = {"": torch.bfloat16, "vae": common.DTYPES[settings.vae_dtype]}
    parts = common.components(folder, dtypes, settings.weights)
    index = common.read_json(folder, "model_index.json")
    of_22 = {key: index[key] for key in ("boundary_ratio", "expand_timesteps") if key in index}
    shift = {} if of_22 else {"flow_shift": FLOW_SHIFT}
    parts["scheduler"] = diffusers.UniPCMultistepScheduler.from_config(parts["scheduler"].config, **shift)
    tokenizer = common.Tokenizer(parts["text_encoder"].config.vocab_size, 512)
    pipe = diffusers.WanPipeline(tokenizer=tokenizer, **parts, **of_22)
    stages.watch(pipe)
    return pipe


def generate(pipe, request, stages):
    return pipe(**request).frames
