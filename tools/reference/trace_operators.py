"""Which operators PyTorch runs for a component of a diffusers model, with its real config on tensors that have
shapes, strides and a device but no data: an independent oracle for the kernel lists in data/stacks.

    python tools/reference/trace_operators.py cogvideox-2b transformer
    python tools/reference/trace_operators.py mochi-1-preview vae --modules 'decoder.up_blocks.2.resnets.1'

A line for each operator with how often it runs and the GB that it reads and writes; with --modules a line for each
of its shapes in the modules whose name begins so, a ~ behind a dtype for what does not lie in order. Views are left
out. What one operator launches is not said: a group norm launches three kernels, a convolution its own, conversions
of the layout and the bias. Versions: diffusers 0.40.0, torch 2.11, transformers 5.24, on a machine without a GPU.
"""

import argparse
import collections
import contextlib
import json
import os

import diffusers
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

MODELS = os.path.join(os.path.dirname(__file__), "..", "..", "data", "models")
PROMPT_ROWS = 30  # rows of a mask that count
QUIET = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh"}


def size(tensor, distinct=False):
    """Bytes, those of an expanded dimension once if `distinct`."""
    count = 1
    for dim, stride in zip(tensor.shape, tensor.stride()):
        count *= dim if stride or not distinct else 1
    return count * tensor.element_size()


def tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)


def short(tensor):
    return str(tensor.dtype).removeprefix("torch.") + ("" if tensor.is_contiguous() else "~")


class Trace(TorchDispatchMode):
    def __init__(self, module):
        super().__init__()
        self.rows, self.where = collections.Counter(), [""]
        for name, child in module.named_modules():
            child.register_forward_pre_hook(lambda *_, name=name: self.where.append(name))
            child.register_forward_hook(lambda *_: self.where.pop() and None, always_call=True)

    def note(self, name, inputs, outputs):
        read, written = sum(size(t, True) for t in inputs), sum(size(t) for t in outputs)
        shape = "x".join(map(str, outputs[0].shape)) if outputs else ""
        dtypes = " ".join(map(short, inputs)) + " -> " + " ".join(map(short, outputs))
        self.rows[(self.where[-1], name, shape, dtypes, read, written)] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name == "nonzero":  # of a mask, whose values are not known
            result = torch.empty(PROMPT_ROWS, args[0].dim(), dtype=torch.int64, device=args[0].device)
        else:
            result = func(*args, **kwargs)
        outputs = list(tensors([result]))
        if func.namespace == "aten" and not func.is_view and name not in QUIET and outputs:
            self.note(name, list(tensors([args, list(kwargs.values())])), outputs)
        return result


def attention(trace):
    """In place of scaled_dot_product_attention: one kernel, whatever it is, its output as flash attention lays it."""

    def flash(query, key, value, attn_mask=None, **_):
        batch, heads, rows, _ = query.shape
        result = torch.empty(batch, rows, heads, value.shape[3], dtype=query.dtype, device=query.device)
        trace.note("attention", [t for t in (query, key, value, attn_mask) if t is not None], [result])
        return result.transpose(1, 2)

    return flash


@contextlib.contextmanager
def autocast(dtype):
    """torch.autocast refuses where it sees no GPU."""
    import torch.amp.autocast_mode as module

    module.torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *_: True
    with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None, cache_enabled=False):
        yield


def load(cls, model, part):
    with open(os.path.join(MODELS, model, part, "config.json")) as file:
        return getattr(diffusers, cls).from_config(json.load(file)).eval()


def case(model, part):
    """The module, its dtype, the autocast's, and a call as the paper's request makes it."""
    half, f32 = torch.bfloat16, torch.float32
    if model.startswith("cogvideox"):
        if part == "vae":
            return "AutoencoderKLCogVideoX", half, None, lambda m: (
                m.enable_tiling(), m.decode(torch.empty(1, 16, 13, 60, 90)))
        rope = (torch.empty(17550, 64, dtype=f32),) * 2 if model.endswith("5b") else None
        return "CogVideoXTransformer3DModel", half, None, lambda m: m(
            torch.empty(2, 13, 16, 60, 90), torch.empty(2, 226, 4096), torch.empty(2, dtype=torch.int64),
            image_rotary_emb=rope)
    if model.startswith("ltx"):
        if part == "vae":
            return "AutoencoderKLLTXVideo", half, None, lambda m: (
                m.enable_tiling(), m.decode(torch.empty(1, 128, 16, 20, 28), torch.empty(1)))
        return "LTXVideoTransformer3DModel", half, None, lambda m: m(
            torch.empty(2, 8960, 128), torch.empty(2, 256, 4096), torch.empty(2, 1), torch.ones(2, 256),
            video_coords=torch.empty(2, 3, 8960, dtype=f32))
    if model.startswith("mochi"):
        if part == "vae":
            return "AutoencoderKLMochi", f32, half, lambda m: (
                m.enable_tiling(), m.decode(torch.empty(1, 12, 14, 60, 106)))
        return "MochiTransformer3DModel", f32, half, lambda m: m(
            torch.empty(2, 12, 14, 60, 106, dtype=half), torch.empty(2, 256, 4096, dtype=half), torch.empty(2),
            torch.ones(2, 256, dtype=torch.bool))
    if model.startswith("animatediff"):
        if part == "vae":
            return "AutoencoderKL", torch.float16, None, lambda m: m.decode(torch.empty(16, 4, 64, 64))
        return None, torch.float16, None, lambda m: m(
            torch.empty(1, 4, 16, 64, 64), torch.tensor(1), torch.empty(16, 77, 768))
    raise SystemExit(f"{model}: no call of its {part} is known here")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("part", choices=["transformer", "unet", "vae"])
    parser.add_argument("--modules")
    args = parser.parse_args()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        torch.set_default_dtype(torch.float32)
        cls, dtype, cast, call = case(args.model, args.part)
        torch.set_default_dtype(dtype)
        if cls:
            module = load(cls, args.model, args.part)
        else:
            diffusers.MotionAdapter.to = lambda self, **_: self  # it is there
            unet, motion = ("UNet2DConditionModel", "unet"), ("MotionAdapter", "motion_adapter")
            parts = [load(name, args.model, part) for name, part in (unet, motion)]
            module = diffusers.UNetMotionModel.from_unet2d(*parts).eval()
        trace = Trace(module)
        torch.nn.functional.scaled_dot_product_attention = attention(trace)
        with torch.no_grad(), autocast(cast), trace:
            call(module)
    if args.modules is not None:
        for (where, name, shape, dtypes, read, written), count in trace.rows.items():
            if where.startswith(args.modules):
                print(f"{count:6} {where} {name} {shape} {dtypes}, {read / 1e6:.1f} and {written / 1e6:.1f} MB")
        return
    sums = collections.defaultdict(lambda: [0, 0.0, 0.0])
    for (_, name, _, _, read, written), count in trace.rows.items():
        for i, value in enumerate((1, read / 1e9, written / 1e9)):
            sums[name][i] += count * value
    for name, (count, read, written) in sorted(sums.items(), key=lambda item: -sum(item[1][1:])):
        print(f"{count:8} {name:24} {read:10.2f} GB read {written:10.2f} written")


if __name__ == "__main__":
    main()
