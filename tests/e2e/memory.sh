#!/bin/bash
# The memory of a run: what is predicted, without a calibration, is what generate says and what it takes.
. "$(dirname "$0")/../e2e/lib.sh"

if ! command -v python3 >/dev/null; then
    skip "predicted and measured memory" "no python3 to read the JSON"
    exit
fi
if grep -q __asan_init "$KINOWATT"; then
    skip "predicted and measured memory" "a sanitizer's memory is many times the program's"
    exit
fi

# generate's figure is predict's, and the peak is within 15 % of it.
while read -r dtype stack width height frames; do
    size=(-W "$width" -H "$height" -f "$frames" -s 1)
    run "$KINOWATT" generate wan2.1-t2v-nano "${size[@]}" -p 'a cat' -o clip.y4m --meter none --dtype "$dtype" \
        --json
    if [[ $dtype == bf16 && $rc != 0 ]] && grep -q AVX512_BF16 "$err"; then
        skip "memory in bf16" "this CPU has no bf16"
        continue
    fi
    expect_rc 0
    expect cp "$out" run.json
    run "$KINOWATT" predict wan2.1-t2v-nano "${size[@]}" --prompt-tokens 6 --negative-tokens 1 --stack "$stack" --json
    cp "$out" prediction.json
    expect python3 - run.json prediction.json <<'PYTHON'
import json, sys
memory = json.load(open(sys.argv[1]))["memory"]
said, peak = memory["predicted_bytes"], memory["peak_anonymous_bytes"]
assert said["low"] < said["value"] < said["high"], said
assert abs(said["value"] / peak - 1) < 0.15, f"{said['value'] / 1e6:.1f} MB predicted, {peak / 1e6:.1f} measured"
predicted = json.load(open(sys.argv[2]))["total"]["peak_memory_bytes"]
assert abs(predicted["value"] / said["value"] - 1) < 1e-9, (predicted, said)
PYTHON
    ok "memory of $width x $height x $frames in $dtype"
done <<'SIZES'
bf16 kinowatt-cpu 112 112 5
bf16 kinowatt-cpu 128 128 5
bf16 kinowatt-cpu 256 256 17
f32 kinowatt-cpu-f32 128 128 5
SIZES
