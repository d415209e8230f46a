"""Makes tests/golden/wan22_*.f64 and *.f32 from WanPipeline and its classes on the tiny models tests/golden/wan22-*,
with the weights of random_weights.py, as make_golden.py does and with the versions that it names.

    python tools/reference/make_wan22.py [words of the names]

The same cases are in tests/unit/test_parity_wan22.c. A file holds one output, raw little-endian numbers in C
order, of frames each EVERY-th; each case also runs untouched in float32, and what is printed says how far that is
away.
"""

import contextlib
import sys
import types

import diffusers
import diffusers.pipelines.wan.pipeline_wan as pipeline_module
import torch
import transformers
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

import make_golden as golden
import random_weights as rw

SEED, EVERY = golden.SEED, 7


@contextlib.contextmanager
def wide():
    """make_golden's, in the pipeline's module too."""
    narrow = pipeline_module.torch
    with golden.wide():
        pipeline_module.torch = golden.Wide(narrow)
        try:
            yield
        finally:
            pipeline_module.torch = narrow


class Tokenizer:
    """Token i of the p-th prompt is (3 + p + 7 i) mod vocabulary; a prompt is "p length"."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def __call__(self, prompts, max_length, **_):
        which, length = map(int, prompts[0].split())
        ids = [(3 + which + 7 * i) % self.vocabulary if i < length else 0 for i in range(max_length)]
        mask = torch.arange(max_length)[None] < length
        return types.SimpleNamespace(input_ids=torch.tensor([ids]), attention_mask=mask.long())


def transformer(model, component, dtype):
    net = WanTransformer3DModel.from_config(golden.config(model, component))
    return rw.fill(net, component, SEED).to(dtype).eval()


def pipeline(model, dtype):
    index = golden.json.loads((golden.GOLDEN / model / "model_index.json").read_text())
    encoder = golden.text_encoder(model, dtype)
    vae = rw.fill(AutoencoderKLWan.from_config(golden.config(model, "vae")), "vae", SEED).to(dtype).eval()
    scheduler = UniPCMultistepScheduler.from_config(golden.config(model, "scheduler"))
    second = transformer(model, "transformer_2", dtype) if "transformer_2" in index else None
    pipe = WanPipeline(Tokenizer(encoder.config.vocab_size), encoder, vae, scheduler,
                       transformer(model, "transformer", dtype), second, index.get("boundary_ratio"),
                       index.get("expand_timesteps", False))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pipeline_case(model, steps, guidance, latent, width, lengths):
    """guidance: of the first transformer, of the second (None: the pipeline's own). The latents after each step."""

    def run(dtype):
        pipe, samples = pipeline(model, dtype), []

        def keep(_, index, timestep, kwargs):
            samples.append(kwargs["latents"])
            return {}

        cells = pipe.vae_scale_factor_spatial
        x = golden.noise("latents", 1, pipe.vae.config.z_dim, *latent).to(dtype)
        pipeline_module.prompt_clean = lambda text: text
        pipe.prepare_latents = lambda *_, **__: x
        pipe(prompt=f"0 {lengths[0]}", negative_prompt=f"1 {lengths[-1]}", height=cells * latent[1],
             width=cells * latent[2], num_frames=4 * (latent[0] - 1) + 1, num_inference_steps=steps,
             guidance_scale=guidance[0], guidance_scale_2=guidance[1], max_sequence_length=width,
             output_type="latent", callback_on_step_end=keep)
        return torch.stack(samples)

    return run


def decode_case(model, latent):
    """Frames to the host as [B,F,H,W,C] in 0..1, each EVERY-th number."""
    return lambda dtype: golden.decode(model, golden.noise("latents", 1, 4, *latent), dtype).flatten()[::EVERY]


def transformer_case(model, latent, width, timestep, batch=1):
    """Noise in; the timestep of each token is the same, as the pipeline has it without an image."""

    def run(dtype):
        net = transformer(model, "transformer", dtype)
        x = golden.noise("latents", batch, 4, *latent).to(dtype)
        text = golden.noise("text", batch, width, net.config.text_dim).to(dtype)
        tokens = latent[0] * (latent[1] // 2) * (latent[2] // 2)
        return net(x, torch.full((batch, tokens), timestep), text, return_dict=False)[0]

    return run


CASES = {
    # timesteps 999 and 900 are the first transformer's, whose boundary is 0.9, then 750 and 500 the second's
    "wan22_denoise.f64": pipeline_case("wan22-tiny", 4, (5.0, 3.0), (2, 4, 4), 12, (7, 1)),
    "wan22_denoise_one_scale.f64": pipeline_case("wan22-tiny", 3, (4.0, None), (1, 4, 4), 8, (8, 3)),
    "wan22_denoise_one_pass.f64": pipeline_case("wan22-tiny", 2, (1.0, None), (1, 4, 4), 6, (4,)),
    "wan22_transformer.f64": transformer_case("wan22-tiny-5b", (1, 2, 4), 12, 999),
    "wan22_transformer_batch.f64": transformer_case("wan22-tiny-5b", (3, 4, 6), 12, 421, batch=2),
    "wan22_denoise_5b.f64": pipeline_case("wan22-tiny-5b", 4, (5.0, None), (2, 4, 4), 12, (7, 1)),
    "wan22_denoise_5b_one_pass.f64": pipeline_case("wan22-tiny-5b", 2, (1.0, None), (1, 4, 6), 6, (4,)),
    "wan22_decode_1.f32": decode_case("wan22-tiny-5b", (1, 2, 4)),
    "wan22_decode_2.f32": decode_case("wan22-tiny-5b", (2, 4, 2)),
    "wan22_decode_4.f32": decode_case("wan22-tiny-5b", (4, 2, 2)),
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
        print(name, list(exact.shape), "float32 is away by", float((single - exact).norm() / exact.norm()))


if __name__ == "__main__":
    main()
