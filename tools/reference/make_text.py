"""Makes tests/golden/t5_*.f64 and clip_*.f64 from the transformers classes, with the weights of
random_weights.py and the sizes of tests/unit/test_text_encoders.c.

    pip install transformers==5.24.0 torch==2.11.0
    python tools/reference/make_text.py

The classes run in float64; where their code says float32 that is widened as well.
"""

import pathlib

import torch
import transformers
import transformers.models.t5.modeling_t5 as t5_module
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

import random_weights as rw

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
SEED = 1


class Wide:
    """A module whose float32 is float64."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, "float64" if name == "float32" else name)


def fill(module, prefix):
    """As rw.fill, by the names that checkpoints have: newer classes have dropped a prefix."""
    for name, parameter in module.named_parameters():
        full = name if name.startswith(prefix) else prefix + name
        parameter.copy_(torch.from_numpy(rw.weight("text_encoder", full, tuple(parameter.shape), SEED)))
    return module.double().eval()


def tokens(first, stride, width, vocabulary):
    return torch.tensor([[(first + stride * i) % vocabulary for i in range(width)]])


def t5(width, length):
    config = T5Config(vocab_size=60, d_model=24, d_kv=6, d_ff=40, num_heads=4, num_layers=3,
                      feed_forward_proj="gated-gelu", relative_attention_num_buckets=8,
                      relative_attention_max_distance=12)
    mask = (torch.arange(width) < length).long()[None]
    hidden = fill(T5EncoderModel(config), "")(tokens(3, 7, width, 60), mask).last_hidden_state
    return hidden[:, :length]


def clip(width, activation):
    config = CLIPTextConfig(vocab_size=60, hidden_size=24, intermediate_size=40, num_attention_heads=3,
                            num_hidden_layers=2, max_position_embeddings=11, hidden_act=activation,
                            bos_token_id=0, eos_token_id=2)
    model = fill(CLIPTextModel(config), "text_model.")
    return model(tokens(5, 11, width, 60)).last_hidden_state


def main():
    transformers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    plain, t5_module.torch = t5_module.torch, Wide(t5_module.torch)
    cases = {"t5_no_mask.f64": t5(20, 20), "t5_masked.f64": t5(9, 5), "clip.f64": clip(11, "quick_gelu"),
             "clip_gelu.f64": clip(7, "gelu")}
    t5_module.torch = plain
    for name, hidden in cases.items():
        assert hidden.dtype == torch.float64
        hidden.numpy().astype("<f8").tofile(GOLDEN / name)
        print(name, list(hidden.shape), float(hidden.norm()))


if __name__ == "__main__":
    main()
