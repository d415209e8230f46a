"""HunyuanVideo: HunyuanVideoPipeline. Guidance is embedded, one pass a step; Llama reads a prompt behind a template,
CLIP reads it alone."""

import common
import diffusers
import torch

# As the example of the pipeline's documentation has it: the transformer in bfloat16, text encoders and VAE in float16,
# VAE tiling. The paper did not run it.
DEFAULTS = {
    "width": 1280,
    "height": 720,
    "num_frames": 129,
    "num_inference_steps": 50,
    "guidance_scale": 6.0,
    "vae_dtype": "float16",
    "tiling": True,
    "offload": False,
    "output_type": "pil",
}
# As many tokens as the pipeline's own template has before the prompt.
TEMPLATE = {"template": " ".join(f"t{i}" for i in range(95)) + " {}", "crop_start": 95}


def build(folder, settings, stages):
    dtypes = {"": torch.float16, "transformer": torch.bfloat16, "vae": common.DTYPES[settings.vae_dtype]}
    parts = common.components(folder, dtypes, settings.weights)
    tokenizers = {
        "tokenizer": common.Tokenizer(parts["text_encoder"].config.vocab_size, 256),
        "tokenizer_2": common.Tokenizer(
            parts["text_encoder_2"].config.vocab_size, 77, end=49407, pad=49407, begin=49406
        ),
    }
    pipe = diffusers.HunyuanVideoPipeline(**tokenizers, **parts)
    stages.watch(pipe)
    return pipe


def generate(pipe, request, stages):
    return pipe(**request, prompt_template=TEMPLATE).frames
