"""Makes tests/golden/ops.json: what PyTorch and diffusers give for operators of src/graph/ops.def.

    pip install diffusers==0.40.0 torch==2.11.0
    python tools/reference/make_ops.py

Names and inputs are those of the cases in tests/support/op_cases.c: element i of operand k is
sin(1.7 i + k + 0.5) + 0.3 sin(0.13 i) + 0.1 k rounded to float32, weights are those of random_weights.py. Kept of
each result are its number of elements, its sum, and its product with sin(0.37 i + 1).
"""

import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import MochiAttention, MochiAttnProcessor2_0  # noqa: F401
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_ltx import AutoencoderKLLTXVideo, LTXVideoCausalConv3d
from diffusers.models.embeddings import apply_rotary_emb, get_1d_sincos_pos_embed_from_grid
from diffusers.models.transformers.transformer_ltx import LTXVideoRotaryPosEmbed
from diffusers.models.transformers.transformer_mochi import MochiRoPE
from diffusers.pipelines.ltx.modeling_latent_upsampler import PixelShuffleND
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

import random_weights as rw

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "ops.json"
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)


def x(k, *shape):
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    values = np.sin(1.7 * i + k + 0.5) + 0.3 * np.sin(0.13 * i) + 0.1 * k
    return torch.from_numpy(values.astype(np.float32).astype(np.float64).reshape(shape))


def w(k, *shape):
    name = "w2.bias" if k == 2 else f"w{k}"
    return torch.from_numpy(rw.weight("test", name, shape, 1).astype(np.float64))


def heads(t, n):
    return t.unflatten(-1, (n, -1)).transpose(-2, -3)


def flat(t):
    return t.transpose(-2, -3).flatten(-2)


def attend(scale, n, q, k, v, mask=None, causal=False):
    y = F.scaled_dot_product_attention(heads(q, n), heads(k, n), heads(v, n), scale=scale, attn_mask=mask,
                                       is_causal=causal)
    return flat(y)


def lengths_mask(keys, lengths):
    return (torch.arange(keys) < torch.tensor(lengths)[:, None])[:, None, None, :]


def ragged():
    """Each video cut to its own length, as Mochi's attention does, then padded with zeros."""
    q, k, v, rows = x(0, 2, 20, 32), x(1, 2, 20, 32), x(2, 2, 20, 32), []
    for b, n in enumerate((9 + 7, 9 + 3)):
        y = attend(0.3, 2, q[b:b + 1, :n], k[b:b + 1, :n], v[b:b + 1, :n])
        rows.append(F.pad(y, (0, 0, 0, 20 - n)))
    return torch.cat(rows)


def with_weights(conv, weight, bias):
    inner = conv.conv
    inner.weight.copy_(weight)
    inner.bias.copy_(bias)
    return conv


def cog(pad_mode):
    return with_weights(CogVideoXCausalConv3d(6, 8, 3, pad_mode=pad_mode), w(1, 8, 6, 3, 3, 3), w(2, 8))


def ltx_conv():
    return with_weights(LTXVideoCausalConv3d(6, 8, 3, is_causal=False), w(1, 8, 6, 3, 3, 3), w(2, 8))


def modulate_images(scale_too):
    rows = 2 if scale_too else 1
    image, table = x(0, 2, 6, 2, 3, 5), x(1, 2, rows, 6)[..., None, None, None]
    return image * (1 + table[:, 0]) + table[:, 1] if scale_too else image + table[:, 0]


def rope_ltx():
    """The table of transformer_ltx.py for coordinates that give positions 2 p - 1 = those of the case."""
    places, frequencies = [-0.75, 0.5, 1.25], [1.5, 40.0, 1500.0]
    grid = torch.tensor(places, dtype=torch.float32)
    at = torch.stack(torch.meshgrid(grid[:2], grid[:2], grid, indexing="ij"), -1).reshape(1, -1, 3)
    angles = torch.tensor(frequencies, dtype=torch.float32) * at.unsqueeze(-1)
    angles = angles.transpose(-1, -2).flatten(2).double()
    cos = F.pad(angles.cos().repeat_interleave(2, -1), (4, 0), value=1)
    sin = F.pad(angles.sin().repeat_interleave(2, -1), (4, 0))
    return torch.stack([cos[..., 0::2], sin[..., 1::2]], -1).flatten(-2)[0]


def rope_mochi():
    positions = torch.tensor([[t, h, c] for t in (0.0, 1.0) for h in (-0.75, 0.5) for c in (-0.75, 0.5, 1.25)])
    cos, sin = MochiRoPE()._create_rope(w(0, 3, 2, 5).float(), positions.float())
    return torch.stack([cos, sin], -1).double().flatten(1)


def sines_cosines():
    t, c = torch.meshgrid(torch.arange(3.0), torch.arange(2.0), indexing="ij")  # each row of pixels twice
    t, c = t[:, None].expand(3, 2, 2).flatten(), c[:, None].expand(3, 2, 2).flatten()
    return torch.cat([get_1d_sincos_pos_embed_from_grid(8, t, output_type="pt", dtype=torch.float64),
                      get_1d_sincos_pos_embed_from_grid(6, c, output_type="pt", dtype=torch.float64)], 1)


def sin_cos():
    """SinusoidalPositionalEmbedding of the motion modules."""
    position = torch.arange(5.0)[:, None]
    div = torch.exp(torch.arange(0, 8, 2) * (-math.log(10000.0) / 8))
    table = torch.zeros(5, 8)
    table[:, 0::2], table[:, 1::2] = torch.sin(position * div), torch.cos(position * div)
    return table


def rope_prefix():
    """As CogVideoX turns the rows of the video alone; the table has cos and sin in turn."""
    q, table = heads(x(0, 2, 5, 36), 3), x(1, 3, 12)
    cos, sin = table[:, 0::2].repeat_interleave(2, -1), table[:, 1::2].repeat_interleave(2, -1)
    turned = apply_rotary_emb(q[:, :, 2:].float(), (cos.float(), sin.float()))
    return flat(torch.cat([q[:, :, :2], turned.double()], 2))


def resize_alone():
    t = x(0, 1, 5, 3, 3, 4)
    return torch.cat([F.interpolate(t[:, :, :1], size=(1, 6, 8)), F.interpolate(t[:, :, 1:], size=(4, 6, 8))], 2)


def depth_ltx():
    t = x(0, 1, 30, 2, 3, 4).reshape(1, -1, 1, 3, 2, 2, 3, 4)  # columns before rows
    return t.permute(0, 1, 5, 2, 6, 4, 7, 3).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def blend():
    """tiled_decode of the VAEs, its tiles cut from the mosaic of the case."""
    mosaic, vae = x(0, 1, 2, 2, 15, 22), AutoencoderKLLTXVideo.__new__(AutoencoderKLLTXVideo)
    rows = [[mosaic[..., 6 * i:6 * i + min(6, 11 - 4 * i), 7 * j:7 * j + min(7, 13 - 4 * j)].clone()
             for j in range(4)] for i in range(3)]
    out = []
    for i, row in enumerate(rows):
        line = []
        for j, tile in enumerate(row):
            if i > 0:
                tile = vae.blend_v(rows[i - 1][j], tile, 2)
            if j > 0:
                tile = vae.blend_h(row[j - 1], tile, 3)
            line.append(tile[..., :4, :4])
        out.append(torch.cat(line, 4))
    return torch.cat(out, 3)


def blend_in_time():
    """_temporal_tiled_decode of AutoencoderKLHunyuanVideo: tiles of 1 + 6, 6 and 1 frames, 4 apart, in two of
    rows each; the class itself gives what each tile decodes to."""
    mosaic, vae = x(0, 2, 2, 15, 6, 7), AutoencoderKLHunyuanVideo.__new__(AutoencoderKLHunyuanVideo)

    def joined(first, last):
        above, below = mosaic[:, :, first:last, :4].clone(), mosaic[:, :, first:last, 4:].clone()
        return torch.cat([above[..., :3, :], vae.blend_v(above, below, 1)], 3)

    tiles = [joined(0, 7), joined(7, 12), joined(13, 14)]
    out = [tiles[0][:, :, :5]]
    for before, tile in zip(tiles, tiles[1:]):
        out.append(vae.blend_t(before, tile, 2)[:, :, :4])
    return torch.cat(out, 2)


def mean_rows(last=9):
    t = x(0, 2, 9, 5)
    return torch.stack([t[0, max(0, 7 - last):7].mean(0), t[1, max(0, 3 - last):3].mean(0)])


def causal_mask(rows, block):
    at = torch.arange(rows) // block
    return at[:, None] >= at


def rope_halves():
    """As LlamaAttention turns queries and keys; the table has cos and sin in turn."""
    q, table = heads(x(0, 2, 5, 36), 3), x(1, 5, 12)
    cos, sin = (t.repeat(1, 2)[None] for t in (table[:, 0::2], table[:, 1::2]))
    return flat(apply_rotary_pos_emb(q, q, cos, sin)[0])


def glu(act):
    a, b = x(0, 2, 7, 38).chunk(2, -1)
    return a * act(b)


def put_block():
    y = x(0, 2, 3, 5, 2, 4)
    y[:, :, 3:5, 1:2, 1:4] = x(1, 2, 3, 2, 1, 3)
    return y


def gate_flat():
    return x(0, 2, 3, 21) + x(1, 2, 3, 21) * x(2, 2, 3, 21)[:, 2:3]


CASES = {
    "conv, edges of time": lambda: ltx_conv()(x(0, 2, 6, 3, 5, 3)),
    "conv causal, edges": lambda: cog("replicate")(x(0, 1, 6, 2, 5, 3))[0],
    "conv causal, edge of time, keeps": lambda: cog("first")(x(0, 1, 6, 1, 5, 3))[0],
    "conv of stride 2": lambda: F.conv3d(x(0, 1, 6, 2, 6, 5), w(1, 4, 6, 3, 3)[:, :, None], w(2, 4),
                                         stride=(1, 2, 2), padding=(0, 1, 1)),
    "attention, causal": lambda: attend(0.2, 3, x(0, 2, 37, 48), x(1, 2, 37, 48), x(2, 2, 37, 48), causal=True),
    "attention, causal by blocks": lambda: attend(
        0.2, 1, x(0, 2, 150, 16), x(1, 2, 150, 16), x(2, 2, 150, 16), causal_mask(150, 15)),
    "attention, causal before the length": lambda: attend(
        0.3, 2, x(0, 2, 20, 32), x(1, 2, 20, 32), x(2, 2, 20, 32),
        lengths_mask(20, (4 + 7, 4 + 3)) & causal_mask(20, 1)),
    "attention, keys before the length": lambda: attend(
        0.3, 2, x(0, 2, 1, 32), x(1, 2, 20, 32), x(2, 2, 20, 32), lengths_mask(20, (4 + 7, 4 + 3))),
    "attention, ragged": ragged,
    "layernorm of heads": lambda: F.layer_norm(x(0, 2, 5, 60).unflatten(2, (3, 20)), (20,), w(1, 20), w(2, 20),
                                               1e-6).flatten(2),
    "rmsnorm, plain": lambda: F.rms_norm(x(0, 2, 5, 37), (37,), eps=1e-6),
    "rmsnorm of heads": lambda: F.rms_norm(x(0, 2, 5, 60).unflatten(2, (3, 20)), (20,), w(1, 20), 1e-5).flatten(2),
    "channel_rmsnorm, plain": lambda: F.rms_norm(x(0, 2, 6, 2, 3, 5).movedim(1, -1), (6,), eps=1e-8).movedim(-1, 1),
    "groupnorm": lambda: F.group_norm(x(0, 2, 12, 2, 3, 5), 3, w(1, 12), w(2, 12), 1e-6),
    "groupnorm of frames, silu": lambda: F.silu(F.group_norm(
        x(0, 1, 34, 3, 3, 2).transpose(1, 2).flatten(0, 1), 2, w(1, 34), w(2, 34), 1e-5)).unflatten(
            0, (1, 3)).transpose(1, 2),
    "gelu, exact": lambda: F.gelu(x(0, 3, 7, 5)),
    "gelu, quick": lambda: x(0, 3, 7, 5) * torch.sigmoid(1.702 * x(0, 3, 7, 5)),
    "glu": lambda: glu(F.silu),
    "glu, exact gelu": lambda: glu(F.gelu),
    "modulate, scale of a flat table": lambda: x(0, 2, 3, 21) * (1 + x(1, 2, 1, 63)[..., 21:42]),
    "modulate of images": lambda: modulate_images(True),
    "modulate of images, shift alone": lambda: modulate_images(False),
    "gate_add of a flat table": gate_flat,
    "rope after a prefix": rope_prefix,
    "rope of halves": rope_halves,
    "rope_table by frequency": rope_ltx,
    "rope_table of sines and cosines": sines_cosines,
    "rope_table of sin and cos": sin_cos,
    "rope_table, learned": rope_mochi,
    "mean_rows": mean_rows,
    "mean_rows, the last": lambda: mean_rows(1),
    "mean_rows, the last five": lambda: mean_rows(5),
    "channel_affine of weights": lambda: x(0, 2, 3, 2, 4, 5) * w(2, 3).view(3, 1, 1, 1) + w(1, 3).view(3, 1, 1, 1),
    "to_tracks": lambda: x(0, 2, 5, 2, 3, 4).permute(0, 3, 4, 2, 1).flatten(0, 2),
    "join_tracks": lambda: x(0, 24, 2, 5).unflatten(0, (2, 3, 4)).permute(0, 4, 3, 1, 2),
    "resize": lambda: F.interpolate(x(0, 2, 5, 3, 4, 4), size=(5, 9, 4)),
    "resize, the first frame alone": resize_alone,
    "depth_to_space": lambda: PixelShuffleND(3, (3, 2, 1))(x(0, 2, 30, 2, 3, 4)),
    "depth_to_space, transposed": depth_ltx,
    "concat of channels": lambda: torch.cat([x(0, 2, 5, 2, 3, 4), x(1, 2, 6, 2, 3, 4)], 1),
    "slice of lines": lambda: x(0, 2, 6, 2, 3, 4)[:, :, :, 1:3],
    "repeat of heads": lambda: flat(repeat_kv(heads(x(0, 2, 6, 14), 2), 3)),
    "repeat": lambda: x(0, 2, 6, 7).repeat_interleave(3, 0),
    "take_block": lambda: x(0, 2, 3, 5, 2, 4)[:, :, 3:5, 1:2, 1:4],
    "put_block": put_block,
    "blend_tiles": blend,
    "blend_tiles in time": blend_in_time,
}


def main():
    cases = []
    for name, run in CASES.items():
        y = run().contiguous().double().flatten().numpy()
        cases.append({"name": name, "elements": len(y), "sum": float(y.sum()),
                      "product": float((y * np.sin(0.37 * np.arange(len(y)) + 1)).sum())})
    OUT.write_text(json.dumps({"diffusers": "0.40.0", "torch": "2.11.0", "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
