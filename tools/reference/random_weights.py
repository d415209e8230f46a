"""The random weights of src/engine/random.h in numpy: the same bits, so that golden files made with
the diffusers classes hold outputs only.

    fill(module, "transformer", seed=1)         # every parameter of a torch module, by its name
    noise("latents", (1, 4, 2, 4, 6), seed=1)   # standard normal but for its tails
"""

import numpy as np

UNIT = np.float32(float.fromhex("0x1.bb67aep-16"))  # sqrt(3) / 65536: standard deviation 1
MASK = np.uint64(0xFFFFFFFF)


def philox4x32(counter, key):
    """Philox4x32-10. counter: four uint64 arrays holding 32-bit words; key: two integers."""
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & MASK,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & MASK,
        )
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def stream_key(component, name):
    """FNV-1a, 64 bit, of "component/name"."""
    value = 0xCBF29CE484222325
    for byte in f"{component}/{name}".encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value & 0xFFFFFFFF, value >> 32


def elements(component, name, seed, count, mean, scale, distribution="normal"):
    """The first `count` elements of a stream, float32. distribution: normal, uniform or constant."""
    block = np.arange((count + 1) // 2, dtype=np.uint64)
    high = np.zeros_like(block)
    counter = (block & MASK, block >> np.uint64(32), high + np.uint64(seed & 0xFFFFFFFF), high + np.uint64(seed >> 32))
    words = np.stack(philox4x32(counter, stream_key(component, name)), axis=1)
    if distribution == "constant":
        return np.full(count, mean, np.float32)
    if distribution == "uniform":
        centred = 2 * (words[:, 0::2] & np.uint64(0xFFFF)).astype(np.int64).reshape(-1)[:count] - 65535
        return np.float32(mean) + centred.astype(np.float32) * np.float32(scale)
    halves = (words & np.uint64(0xFFFF)) + (words >> np.uint64(16))
    sums = halves[:, 0::2] + halves[:, 1::2]  # [block, 2]
    centred = sums.astype(np.int64).reshape(-1)[:count] - 131070
    return np.float32(mean) + centred.astype(np.float32) * np.float32(scale)


def law(name, shape):
    """Mean and scale of a weight, from its name and shape."""
    fan_in = int(np.prod(shape[1:], dtype=np.int64))
    if fan_in == 1:
        return (1.0 if name.endswith(("weight", "gamma", "std")) else 0.0), 2.0**-19
    exponent, ratio = 0, fan_in * 2.0**32
    while ratio >= 6:
        ratio /= 4
        exponent -= 1
    return 0.0, 2.0**exponent


def weight(component, name, shape, seed, distribution="normal"):
    mean, scale = law(name, shape)
    return elements(component, name, seed, int(np.prod(shape)), mean, scale, distribution).reshape(shape)


def noise(name, shape, seed):
    return elements("noise", name, seed, int(np.prod(shape)), 0.0, UNIT).reshape(shape)


def fill(module, component, seed):
    """Sets every parameter of a torch module."""
    import torch

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(weight(component, name, tuple(parameter.shape), seed)))
    return module


if __name__ == "__main__":  # the constants of tests/unit/test_random.c
    print([f"{int(w):08x}" for w in philox4x32((0, 0, 0, 0), (0, 0))])
    print([f"{w:08x}" for w in stream_key("transformer", "blocks.0.attn1.to_q.weight")])
    shape = (1536, 1536)
    values = weight("transformer", "blocks.0.attn1.to_q.weight", shape, 0x123456789)
    print(law("blocks.0.attn1.to_q.weight", shape), [float(v).hex() for v in values.reshape(-1)[[0, 1, 2, 3, 2359295]]])
    print([float(v).hex() for v in noise("latents", (4,), 42)])
    print([float(v).hex() for v in weight("vae", "decoder.norm_out.gamma", (96, 1, 1, 1), 7).reshape(-1)[:3]])
    print([float(v).hex() for v in weight("transformer", "blocks.0.attn1.to_q.weight", shape, 0x123456789, "uniform").reshape(-1)[[0, 1, 2, 3, 2359295]]])
    big = elements("transformer", "blocks.0.attn1.to_q.weight", 1, 1 << 20, 0.0, UNIT)
    print(big.mean(), big.std(), np.abs(big).max(), (big.astype(np.float64) ** 4).mean())
