"""Writes tests/data/casts.safetensors with the safetensors package: the same numbers in several dtypes,
cast by torch, for tests/unit/test_safetensors.c.

    wide.f32   numbers where rounding to bf16 is decided: ties, carries, the largest, subnormals
    wide.bf16  torch's wide.f32.to(bfloat16)
    half.f16   every 29th bit pattern of f16; half.f32, half.bf16: torch's casts of it

    pip install torch safetensors numpy;  python3 tools/reference/make_safetensors.py
"""

import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "casts.safetensors"

# 16 high halves x low halves around the tie, and patterns from a multiplicative sequence
high = np.array([0x3F80, 0x3F81, 0xBF80, 0xBFFF, 0x7F7E, 0x7F7F, 0xFF7F, 0x0000, 0x8000, 0x0001, 0x007F, 0x0080,
                 0x7F80, 0xFF80, 0x4000, 0xC2F7], np.uint32)
low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
patterns = (high[:, None] << 16 | low[None]).reshape(-1)
patterns = np.concatenate([patterns, (np.arange(1500, dtype=np.uint64) * 2654435761 % 2**32).astype(np.uint32)])
wide = torch.from_numpy(patterns.view(np.float32).copy())
wide = wide[~torch.isnan(wide)]  # a NaN keeps no bits that must agree
half = torch.from_numpy(np.arange(0, 65536, 29, dtype=np.uint16).view(np.float16).copy())
half = half[~torch.isnan(half)]
half = half[: half.numel() // 7 * 7].reshape(-1, 7)
save_file({"wide.f32": wide, "wide.bf16": wide.bfloat16(), "half.f16": half, "half.f32": half.float(),
           "half.bf16": half.bfloat16(), "scalar": torch.tensor(2.5), "none": torch.zeros(0, 3),
           "int": torch.arange(3)}, OUT, metadata={"format": "pt"})
