"""Rows of stacks/diffusers/run.py on tiny models (check_pipelines.py RESULTS), against what each pipeline must do."""

import itertools
import json
import sys

PLAIN = ["text_encode", "denoise", "decode", "output"]
LTX = ["text_encode", "denoise", "upscale", "text_encode", "refine", "decode", "output"]
# name: stages, frames out, size out, latents at the decoder, tokens, the denoiser's attention calls in 2 steps
EXPECTED = {
    "wan": (PLAIN, 9, [64, 64], [1, 16, 3, 8, 8], 48, 2 * 2 * 2 * 2),  # steps, passes, layers, self and cross
    # the first transformer makes the first step, the second, of one layer, the other
    "wan22": (PLAIN, 9, [64, 64], [1, 16, 3, 8, 8], 48, 2 * (2 + 1) * 2),
    "ti2v": (PLAIN, 9, [64, 64], [1, 48, 3, 4, 4], 12, 2 * 2 * 2 * 2),  # 80x64 asked for
    "cogvideox": (PLAIN, 9, [96, 64], [1, 16, 3, 8, 12], 72, 2 * 2),
    "ltx": (LTX, 17, [256, 128], [1, 128, 3, 4, 8], 96, 2 * 2 * 2),  # 192x100: 128x64, doubled
    "mochi": (PLAIN, 7, [64, 64], [1, 12, 2, 8, 8], 32, None),
    "hunyuan": (PLAIN, 5, [64, 64], [1, 16, 2, 8, 8], 32, 2 * (1 + 1 + 1)),  # steps; refiner, dual and single block
    "animatediff": (PLAIN, 8, [64, 64], [8, 4, 8, 8], None, None),
}


def main():
    with open(sys.argv[1]) as file:
        rows = {r["settings"]["name"]: r for r in map(json.loads, file) if r.get("window", "").endswith("/repeat-1")}
    for name, (stages, frames, size, latents, tokens, attention) in EXPECTED.items():
        row = rows[name]
        assert [s["name"] for s in row["stages"]] == stages, (name, row["stages"])
        found = (row["frames_out"], row["size_out"], row["latents"], row["tokens"])
        assert found == (frames, size, latents, tokens), (name, found)
        assert row["latents_finite"] and not row["frames_constant"], name
        spans = row["stages"]
        assert all(a["end_s"] <= b["start_s"] for a, b in itertools.pairwise(spans)), name
        inside = sum(s["end_s"] - s["start_s"] for s in spans)
        assert 0.9 * row["seconds"] < inside <= row["seconds"], (name, inside, row["seconds"])
        if attention:
            assert sum(row["attention"]["denoise"].values()) == attention, (name, row["attention"])
    assert rows["zeros"]["frames_constant"] and rows["zeros"]["latents_finite"]
    assert rows["batch"]["latents"][0] == 2
    wan = rows["wan"]["dtypes"]
    # embedding 200 x 32; in each of 2 layers q, k, v, o of 32 x 32, three products of 32 x 64, a bias table of 32 x 4
    # (umT5: one in each layer) and two gains; a gain at the end. The embedding, tied, counts once.
    assert wan["text_encoder"] == {"bfloat16": 200 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 32 * 4 + 2 * 32) + 32}, wan
    assert set(wan["vae"]) == {"float32"} and set(wan["text_encoder"]) == {"bfloat16"} and len(wan["transformer"]) == 2


if __name__ == "__main__":
    main()
