"""Makes tests/golden/hunyuan_*.f64 and *.f32 from the diffusers and transformers classes on the tiny model
tests/golden/hunyuan-tiny, with the weights of random_weights.py, as make_golden.py does and with the versions that it
names.

    python tools/reference/make_hunyuan.py [words of the names]

The same cases are in tests/unit/test_parity_hunyuan.c. A file holds one output, raw little-endian numbers in C order;
each case also runs untouched in float32, and what is printed says how far that is away.
"""

import contextlib
import sys

import diffusers
import diffusers.models.transformers.transformer_hunyuan_video as transformer_module
import diffusers.schedulers.scheduling_flow_match_euler_discrete as scheduler_module
import numpy as np
import torch
import transformers
import transformers.models.llama.modeling_llama as llama_module
from diffusers import AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler, HunyuanVideoTransformer3DModel
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

import make_golden as golden
import random_weights as rw

MODEL, SEED = "hunyuan-tiny", golden.SEED
TEMPLATE, POOLED = 95, 77  # tokens that the pipeline puts before a prompt, and that CLIP reads


@contextlib.contextmanager
def wide():
    """make_golden's, in these classes' modules too; integers become float64, and so do what positions are given as."""
    narrow = get_1d_rotary_pos_embed.__defaults__
    patched = [(m, n, getattr(m, n)) for m in (transformer_module, scheduler_module, llama_module)
               for n in ("torch", "np") if hasattr(m, n)]
    with golden.wide():
        torch.Tensor.float = torch.Tensor.double
        get_1d_rotary_pos_embed.__defaults__ = tuple(torch.float64 if d is torch.float32 else d for d in narrow)
        for module, name, original in patched:
            setattr(module, name, golden.Wide(original))
        try:
            yield
        finally:
            get_1d_rotary_pos_embed.__defaults__ = narrow
            for module, name, original in patched:
                setattr(module, name, original)


def llama(dtype):
    config = LlamaConfig(**golden.config(MODEL, "text_encoder"))
    encoder = rw.fill(LlamaModel(config), "text_encoder", SEED).to(dtype).eval()
    if dtype == torch.float64:  # the frequencies are computed in float32
        d = config.hidden_size // config.num_attention_heads
        theta = golden.config(MODEL, "text_encoder")["rope_theta"]
        encoder.rotary_emb.inv_freq = theta ** (-torch.arange(0, d, 2, dtype=dtype) / d)
    return encoder


def clip(dtype, end):
    """Filled by the names that checkpoints have: newer classes have dropped a prefix. `end`: the token of the end."""
    encoder = CLIPTextModel(CLIPTextConfig(**golden.config(MODEL, "text_encoder_2"), eos_token_id=end))
    for name, parameter in encoder.named_parameters():
        full = name if name.startswith("text_model.") else "text_model." + name
        parameter.copy_(torch.from_numpy(rw.weight("text_encoder_2", full, tuple(parameter.shape), SEED)))
    return encoder.to(dtype).eval()


def transformer(dtype):
    config = golden.config(MODEL, "transformer")
    return rw.fill(HunyuanVideoTransformer3DModel.from_config(config), "transformer", SEED).to(dtype).eval()


def masks(lengths, width):
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


def transformer_case(latent, width, lengths, timestep):
    """text: noise over all `width` rows; a length for each row of the batch; guidance 1."""

    def run(dtype):
        batch, net = len(lengths), transformer(dtype)
        x, text = golden.noise("latents", batch, 4, *latent).to(dtype), golden.noise("text", batch, width, 16).to(dtype)
        pooled = golden.noise("pooled", batch, 12).to(dtype)
        t, guidance = torch.full((batch,), timestep, dtype=dtype), torch.full((batch,), 1000.0, dtype=dtype)
        return net(x, t, text, masks(lengths, width).to(dtype), pooled, guidance, return_dict=False)[0]

    return run


def decode_case(latent, tiled=False, every=1):
    """As HunyuanVideoPipeline: frames last to the host as [B,F,H,W,C] in 0..1; each `every`-th number."""

    def run(dtype):
        vae = AutoencoderKLHunyuanVideo.from_config(golden.config(MODEL, "vae"))
        vae = rw.fill(vae, "vae", SEED).to(dtype).eval()
        if tiled:
            vae.enable_tiling()
        latents = golden.noise("latents", 1, 4, *latent).to(dtype) / vae.config.scaling_factor
        video = vae.decode(latents, return_dict=False)[0]
        return (video / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1).flatten()[::every].contiguous()

    return run


def tokens(length, width):
    """Token i of the prompt is (3 + 7 i) mod 64."""
    return torch.tensor([[(3 + 7 * i) % 64 if i < length else 0 for i in range(width)]])


def encode(dtype, length, width):
    """The template's tokens are 0, 1, 2 ... mod 64. As the pipeline: Llama without its last two blocks and the
    template's rows, and CLIP's pooled row."""
    ids = torch.cat([torch.arange(TEMPLATE)[None] % 64, tokens(length, width)], 1)
    states = llama(dtype)(input_ids=ids, attention_mask=masks([TEMPLATE + length], TEMPLATE + width).long(),
                          output_hidden_states=True).hidden_states
    ids = tokens(length, POOLED)
    return states[-3][:, TEMPLATE:], clip(dtype, int(ids[0, length - 1]))(ids).pooler_output


def pipeline_case(steps, guidance, latent, width, length):
    """HunyuanVideoPipeline's loop: the latents after each step."""

    def run(dtype):
        net, (text, pooled) = transformer(dtype), encode(dtype, length, width)
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(golden.config(MODEL, "scheduler"))
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])
        x, samples = golden.noise("latents", 1, 4, *latent).to(dtype), []
        scale = torch.tensor([guidance], dtype=dtype) * 1000.0
        for t in scheduler.timesteps:
            v = net(x, t[None].to(dtype), text, masks([length], width).to(dtype), pooled, scale, return_dict=False)[0]
            x = scheduler.step(v, t, x, return_dict=False)[0]
            samples.append(x)
        return torch.stack(samples)

    return run


CASES = {
    "hunyuan_transformer.f64": transformer_case((1, 2, 4), 6, [4], 421.5),
    "hunyuan_transformer_batch.f64": transformer_case((3, 4, 6), 9, [9, 2], 30.25),
    "hunyuan_decode_1.f32": decode_case((1, 2, 4)),
    "hunyuan_decode_4.f32": decode_case((4, 2, 2)),
    "hunyuan_decode_7.f32": decode_case((7, 2, 2), every=5),  # chunks of 5, 4 and 1
    "hunyuan_decode_8.f32": decode_case((8, 2, 4), every=13),  # 5, 5 and 2
    "hunyuan_tiles.f32": decode_case((5, 2, 34), tiled=True, every=53),
    "hunyuan_denoise.f64": pipeline_case(4, 6.0, (2, 4, 4), 9, 7),
    "hunyuan_denoise_full.f64": pipeline_case(2, 1.0, (1, 4, 4), 8, 8),
}


def main():
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    for name, run in CASES.items():
        if len(sys.argv) > 1 and not any(word in name for word in sys.argv[1:]):
            continue
        with wide():
            exact = run(torch.float64)
        assert exact.dtype == torch.float64
        single = run(torch.float32).double()
        exact.numpy().astype("<f8" if name.endswith("f64") else "<f4").tofile(golden.GOLDEN / name)
        print(name, list(exact.shape), "float32 is away by", float((single - exact).norm() / exact.norm()), flush=True)


if __name__ == "__main__":
    main()
