"""What the runners share: real pipeline classes on random weights, their stages, and what ran.

A model is a folder in diffusers layout without weights: model_index.json and each component's config.
Components are made on the meta device and their parameters drawn on the device in the dtype that
from_pretrained would leave them in, so nothing large ever lies on the host. Buffers (rotary tables)
are computed by the classes as usual.

Stages are found from outside; the pipelines' code is not changed:

    text_encode   the pipeline's encode_prompt
    denoise       from its end to the first vae.decode: latents, all steps, the solver
    decode        vae.decode
    output        the rest: to the host, to float or 8-bit frames

With CPU offload, a copy to the device belongs to the stage that needs it.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
import types

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path += [os.path.join(ROOT, "python"), os.path.join(ROOT, "tools", "reference")]

import accelerate
import diffusers
import kinowatt
import numpy as np
import random_weights
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def forget_peak():
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_bytes():
    """The most that tensors held on the device since forget_peak."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None


# ---- Models ----


def find_model(model):
    """The folder of a slug or of a path."""
    for base in ("", os.path.join(ROOT, "data", "models"), os.path.join(ROOT, "stacks", "diffusers", "configs")):
        folder = os.path.join(base, model)
        if os.path.isfile(os.path.join(folder, "model_index.json")):
            return folder
    raise SystemExit(f"{model}: no folder with a model_index.json, and no model known by that name")


def read_json(*path):
    with open(os.path.join(*path)) as file:
        return json.load(file)


def draw(parameter, name, distribution, generator):
    """Fills a weight as kinowatt's own random weights are spread (src/engine/random.h), from torch's generator."""
    mean, scale = random_weights.law(name, tuple(parameter.shape))
    if distribution == "normal":
        parameter.normal_(mean, scale * 65536 / 3**0.5, generator=generator)
    elif distribution == "uniform":
        parameter.uniform_(mean - scale * 65535, mean + scale * 65535, generator=generator)
    else:  # zeros, but for the gains, which are 1
        parameter.fill_(mean)


def materialise(module, dtype, weights):
    """Gives each parameter of a module on the meta device its place, dtype and random values."""
    _, seed, distribution = weights.split(":")
    generator = torch.Generator(DEVICE).manual_seed(int(seed))
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    if isinstance(module, transformers.PreTrainedModel) and dtype != torch.float16:
        kept = set()  # transformers keeps them for float16 alone
    made = {}  # tied weights stay one
    for prefix, child in module.named_modules():
        for name, parameter in child._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                path = f"{prefix}.{name}"
                own = torch.float32 if kept.intersection(path.split(".")) else dtype
                values = torch.empty(parameter.shape, dtype=own, device=DEVICE)
                draw(values, path, distribution, generator)
                made[id(parameter)] = (parameter, torch.nn.Parameter(values, requires_grad=False))
            child._parameters[name] = made[id(parameter)][1]
    return module.to(DEVICE).eval()


def component(folder, name, cls, dtype, weights):
    if issubclass(cls, transformers.PreTrainedModel):
        config = cls.config_class.from_pretrained(os.path.join(folder, name))
        with accelerate.init_empty_weights():
            module = cls(config)
        module.tie_weights()  # what the meta device undid
    else:
        with accelerate.init_empty_weights():
            module = cls.from_config(read_json(folder, name, "config.json"))
    return materialise(module, dtype, weights)


def components(folder, dtypes, weights):
    """All of model_index.json but tokenizers and plain values, by name; dtypes by name, with "" for the others."""
    made = {}
    for name, entry in read_json(folder, "model_index.json").items():
        if name.startswith(("_", "tokenizer")) or not isinstance(entry, list):
            continue
        cls = getattr(transformers if entry[0] == "transformers" else diffusers, entry[1])
        if name == "scheduler":
            made[name] = cls.from_config(read_json(folder, name, "scheduler_config.json"))
        else:
            made[name] = component(folder, name, cls, dtypes.get(name, dtypes[""]), weights)
    return made


class Tokenizer:
    """In place of a tokenizer's files: each word of the prompt is one token, its id drawn from the word."""

    def __init__(self, vocabulary, model_max_length, end=1, pad=0, begin=None):
        self.added_tokens_encoder = {}
        self.vocabulary, self.model_max_length = vocabulary, model_max_length
        self.begin, self.end, self.pad = begin, end, pad

    def tokenize(self, prompt):
        return prompt.split()

    def prompt(self, tokens, seed=0):
        """A prompt of so many tokens, those added at its ends counted."""
        words = tokens - 1 - (self.begin is not None)
        return " ".join(f"w{seed}.{i}" for i in range(words))

    def encode(self, prompt):
        ids = [3 + int(hashlib.md5(w.encode()).hexdigest(), 16) % (self.vocabulary - 8) for w in prompt.split()]
        return ([] if self.begin is None else [self.begin]) + ids + [self.end]

    def __call__(self, prompts, padding=None, max_length=None, **_):
        rows = [self.encode(p) for p in ([prompts] if isinstance(prompts, str) else prompts)]
        length = max_length if padding == "max_length" else max(len(r) for r in rows)
        rows = [r if len(r) <= length else r[: length - 1] + [self.end] for r in rows]
        return types.SimpleNamespace(
            input_ids=torch.tensor([r + [self.pad] * (length - len(r)) for r in rows]),
            attention_mask=torch.tensor([[1] * len(r) + [0] * (length - len(r)) for r in rows]),
        )


# ---- Stages ----


class Stages:
    """One generation's stages: a window of kinowatt and a pair of clock readings for each."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.spans, self.name, self.window, self.latents = [], None, None, None
        self.denoise = "denoise"  # what follows text_encode

    def enter(self, name):
        if name == self.name:
            return
        self.leave()
        self.name, self.window = name, kinowatt.window(name)
        self.window.__enter__()
        self.start = time.monotonic()

    def leave(self):
        if self.window is None:
            return
        synchronize()
        self.spans.append({"name": self.name, "start_s": self.start, "end_s": time.monotonic()})
        self.window.__exit__(None, None, None)
        self.name = self.window = None

    def watch(self, pipe):
        """Finds the stages in the calls of this pipeline."""
        encode_prompt, decode = pipe.encode_prompt, pipe.vae.decode

        def watched_encode_prompt(*args, **kwargs):
            self.enter("text_encode")
            result = encode_prompt(*args, **kwargs)
            self.enter(self.denoise)
            return result

        def watched_decode(latents, *args, **kwargs):
            self.enter("decode")
            self.latents = latents
            result = decode(latents, *args, **kwargs)
            self.enter("output")
            return result

        pipe.encode_prompt, pipe.vae.decode = watched_encode_prompt, watched_decode


class AttentionSpy(TorchDispatchMode):
    """Counts the attention kernels that PyTorch chooses, by stage."""

    def __init__(self, stages):
        super().__init__()
        self.stages, self.counts = stages, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name.startswith("aten::_scaled_dot_product_"):
            backend = name.removeprefix("aten::_scaled_dot_product_").split(".")[0].replace("_attention", "")
            stage = self.counts.setdefault(self.stages.name or "-", {})
            stage[backend] = stage.get(backend, 0) + 1
        return func(*args, **(kwargs or {}))


# ---- What ran ----


def versions():
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_conv": torch.backends.cudnn.allow_tf32,
        "tf32_gemm": torch.backends.cuda.matmul.allow_tf32,
    }
    if DEVICE == "cuda":
        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        query = ["--query-gpu=name,driver_version,power.limit", "--format=csv,noheader,nounits", "-i", uuid]
        answer = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, check=False)
        values = answer.stdout.strip().split(", ") if answer.returncode == 0 else [torch.cuda.get_device_name(0)]
        found |= dict(zip(("gpu", "driver", "power_limit_w"), values), gpu_uuid=uuid)
    return found


def describe(pipe):
    """The dtypes of each component's parameters, with how many there are."""
    found = {}
    for name, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            counts = {}
            for p in module.parameters():
                dtype = str(p.dtype).removeprefix("torch.")
                counts[dtype] = counts.get(dtype, 0) + p.numel()
            found[name] = counts
    return found


def tokens(pipe, latents):
    """The denoiser's tokens for latents of this shape [batch, channel, frame, height, width]; a UNet has none."""
    if not hasattr(pipe, "transformer"):
        return None
    patch = pipe.transformer.config.patch_size
    frames, height, width = patch if isinstance(patch, (list, tuple)) else (1, patch, patch)
    return latents[2] // frames * (latents[3] // height) * (latents[4] // width)


def as_array(frames):
    """Frames of a pipeline, [frame, height, width, channel], of the first clip of the batch."""
    first = frames[0]
    if isinstance(first, torch.Tensor):
        return first.float().cpu().numpy()
    return first if isinstance(first, np.ndarray) else np.stack([np.asarray(image) for image in first])
