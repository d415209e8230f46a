"""AnimateDiff-Lightning: AnimateDiffPipeline, a Stable Diffusion 1.5 UNet with the motion modules of a MotionAdapter
between its layers. Four steps, no guidance, the frames folded into the batch."""

import common
import diffusers
import torch

# As arXiv 2509.19222 ran it: float16, all of it on the GPU, no tiling.
DEFAULTS = {
    "width": 512,
    "height": 512,
    "num_frames": 16,
    "num_inference_steps": 4,
    "guidance_scale": 1.0,
    "vae_dtype": "float16",
    "tiling": False,
    "offload": False,
    "output_type": "pil",
}


def build(folder, settings, stages):
    dtypes = {"": torch.float16, "vae": common.DTYPES[settings.vae_dtype]}
    parts = common.components(folder, dtypes, settings.weights)
    with torch.device(common.DEVICE):  # the pipeline would do this on the host
        parts["unet"] = diffusers.UNetMotionModel.from_unet2d(parts["unet"], parts["motion_adapter"]).eval()
    tokenizer = common.Tokenizer(parts["text_encoder"].config.vocab_size, 77, end=49407, pad=49407, begin=49406)
    pipe = diffusers.AnimateDiffPipeline(tokenizer=tokenizer, **parts)
    stages.watch(pipe)
    return pipe


def generate(pipe, request, stages):
    return pipe(**request).frames
