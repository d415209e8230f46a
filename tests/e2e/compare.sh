#!/bin/bash
# Models side by side: what is predicted for models of which no calibration has a row.
. "$(dirname "$0")/../e2e/lib.sh"

models='cogvideox-2b cogvideox-5b mochi-1-preview'
others='animatediff-lightning-4step ltx-video-0.9.7-dev'

# The errors of each row of a data set and the prediction beside it.
# shellcheck disable=SC2086
errors='[(p["per_clip"][k] / m["per_clip"][k] - 1) for m, p in zip(d["rows"], d["rows"][1:])
    if m["source"] == "delavande2025_models" for k in ("latency_s", "gpu_energy_wh")]'
run "$KINOWATT" compare $models $others --json
expect_rc 0
expect_json "len($errors) == 10"
expect_json "sum(map(abs, $errors)) / 10 <= 0.10"
expect_json "max(map(abs, $errors)) <= 0.18"
ok "the paper's H100 rows of models that no fit has seen: 10 % in the mean, 18 % at most"

# The calibration of the H200, of which WAN2.1-1.3B's rows are all, predicts full clips of the others there.
expect grep -q '"wan2.1-t2v-1.3b"' "$root/data/calibrations/diffusers-0.40@h200.json"
expect test "$(grep -A 2 '"models":' "$root/data/calibrations/diffusers-0.40@h200.json" | wc -w)" -eq 4
errors='[(p["per_clip"][k] / m["per_clip"][k] - 1) for m, p in zip(d["rows"], d["rows"][1:])
    if (m["source"], p["source"], p["model"]) == ("h200_diffusers_full", "predicted", m["model"])
    for k in ("latency_s", "gpu_energy_wh")]'
expect_json "len($errors) == 10"
expect_json "sum(map(abs, $errors)) / 10 <= 0.08"
expect_json "max(map(abs, $errors)) <= 0.12"
ok "full clips of other models on an H200, from WAN2.1-1.3B's rows: 8 % in the mean, 12 % at most"

# Two short runs of a model, by their stages, predict its full clip, which is the line through the same two:
# the fit keeps what it is given. (Of runs that were measured calibrate_rows.sh asks it.)
awk -F, -v models="$models" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    $at["offload"] == "False" && index(models, $1) {
        print $1, $at["width"], $at["height"], $at["num_frames_asked"], $at["num_inference_steps"],
            $at["latency_s"], $at["gpu_energy_wh"] * 3600 }' \
    "$root/data/measured/h200-diffusers/h200_diffusers_full.csv" >requests
expect test "$(wc -l <requests)" -eq 3
while read -r model width height frames steps seconds joules; do
    run "$KINOWATT" calibrate --from "$root/data/measured/h200-diffusers/runs.json" --model "$model" -o own.json
    expect_rc 0
    expect grep -q '"count": 2,' own.json
    run "$KINOWATT" predict "$model" -W "$width" -H "$height" -f "$frames" -s "$steps" --hardware h200 \
        --stack diffusers-0.40 --calibration ./own.json --json
    expect_rc 0
    expect_json "print(abs(d['total']['latency_s']['value'] / $seconds - 1),
        abs(d['total']['energy_j']['gpu']['value'] / $joules - 1), file=open('off', 'a')) is None"
done <requests
if command -v python3 >/dev/null; then
    expect awk '{ time += $1 / 3; energy += $2 / 3 } END { exit !(NR == 3 && time <= 0.04 && energy <= 0.04) }' off
fi
ok "two short runs of a model: its full clip, 4 % in the mean of three, in latency and in energy"

# ---- The tables and the figure ----

run "$KINOWATT" compare --json
expect_rc 0
ranks='[(r, u, q) for r in d["rows"] for u in ("per_clip", "per_video_second", "per_megapixel_frame")
    for q in ("latency", "gpu_energy") if r[u][q + "_rank"]]'
figure='lambda r, u, q: r[u][q + ("_s" if q == "latency" else "_wh")]'
peers='lambda r, u, q, f: [x for x in d["rows"] if r is not x and x["source"] == r["source"] and
    x["hardware"] == r["hardware"] and x["stack"] == r["stack"] and f(x, u, q) is not None]'
published='lambda r: r["source"] != "predicted"'
expect_json "len($ranks) > 100"
expect_json "not [r for r in d['rows'] if r['model'].endswith('-nano')]"
expect_json "[r['per_clip']['latency_rank']['value'] for r in d['rows'] if r['source'] == 'predicted'
    and r['hardware'] == 'h100-sxm'][0] == 1 and d['rows'][0]['model'] == 'animatediff-lightning-4step'"
# of published rows, by their own figures: those of less, and one more
expect_json "all(r[u][q + '_rank']['value'] == 1 + sum(f(x, u, q) < f(r, u, q) for x in p(r, u, q, f))
    and r[u][q + '_rank']['of'] == 1 + len(p(r, u, q, f))
    for f in [$figure] for p in [$peers] for r, u, q in $ranks if ($published)(r))"
expect_json "all(k['low'] <= k['value'] <= k['high'] <= k['of'] for r, u, q in $ranks for k in [r[u][q + '_rank']])"
# a smaller model's interval ends below a larger one's, and both ranks are sure
expect_json "[(r['per_clip']['gpu_energy_rank']['low'], r['per_clip']['gpu_energy_rank']['high'])
    for m in ('cogvideox-2b', 'cogvideox-5b') for r in d['rows'] if r['model'] == m and
    r['source'] == 'delavande2025_models'] == [(3, 3), (4, 4)]"
expect_json "all(abs(sum(r['energy_share'].values()) - 1) < 1e-9 for r in d['rows']
    if r['energy_share']['gpu'] is not None)"
expect_json "[round(100 * r['energy_share']['gpu'], 1) for r in d['rows'] if r['model'] == 'wan2.1-t2v-14b' and
    r['source'] == 'delavande2025_models'] == [86.6]"
expect_json "all(r['latency']['low'] <= r['latency_s'] <= r['latency']['high'] for r in d['rows'])"
ok "ranks are those of the figures, and shares are of the whole"

# an H200 row with offloading is not predicted by a stack without it
expect_json "[sum(r['source'] == s and r['hardware'] == 'h200' for r in d['rows'] if r['model'] == 'cogvideox-2b')
    for s in ('h200_diffusers_full', 'predicted')] == [2, 1]"
ok "what ran otherwise than the stack has no prediction beside it"

run "$KINOWATT" compare --svg figure.svg
expect_rc 0
expect_out '^Energy by device$'
expect_out '^Ranks in each source, 1 the least; in brackets those that 90 % intervals allow$'
expect_out '^\[1\] +cogvideox-2b +720 x 480 +3 +3 '
expect_out '^animatediff-lightning-4step +\[2\] +512 x 512 +16 +4 +0\.714 s +0\.105 Wh '
expect_out '^cogvideox-2b +\[1\] +720 x 480 +8\.30 Wh +0\.843 Wh +0\.535 Wh +85\.8 % +8\.7 % +5\.5 %$'
command -v python3 >/dev/null && expect python3 -c 'import xml.etree.ElementTree as e; e.parse("figure.svg")'
for text in 'cogvideox-2b 720x480, 49 frames' 'B200: ML.ENERGY leaderboard v3.0, xDiT 0.4.5' \
    'b200: predicted with diffusers-0.34' 'random weights, computed' 'GPU Wh per megapixel-frame' \
    'wan2.2-ti2v-5b 832x480, 81 frames' 'the row ran another stack'; do
    expect grep -qF "$text" figure.svg
done
expect test "$(grep -cF 'cogvideox-2b 720x480, 49 frames' figure.svg)" -eq 1 # panels below each other share the axis
# in the panels and in the legend: a model without rows, two rows computed, and what four sources measured; of these
# the prediction and one source know of the CPU and RAM
run "$KINOWATT" compare wan2.2-t2v-a14b wan2.1-t2v-1.3b --svg two.svg
expect_rc 0
expect grep -qF 'wan2.2-t2v-a14b' two.svg
expect test "$(grep -c '<path.*stroke="#000000" stroke-width="1.2"/>' two.svg)" -eq $((6 + 1))
expect test "$(grep -c '<circle.*fill="#FFFFFF"' two.svg)" -eq $((4 * 2 + 1))
expect test "$(grep -c '<circle.*stroke="#FFFFFF"' two.svg)" -eq $((4 * 4 + 2 + 4))
expect grep -qF 'CPU energy (Wh)' two.svg
run "$KINOWATT" compare wan2.1-t2v-nano -s 4 --svg predicted.svg
expect_rc 0
expect grep -qF 'wan2.1-t2v-nano 256x144, 17 frames' predicted.svg
expect test "$(grep -cE 'Discs|Rings|another stack' predicted.svg)" -eq 0
run "$KINOWATT" compare wan2.1-t2v-nano -s 4 --hardware h200 --stack diffusers-0.40 --svg gpu.svg
expect_rc 0
expect test "$(grep -cE 'CPU energy|RAM energy' gpu.svg)" -eq 0 # nothing is known of them there
run "$KINOWATT" compare --svg none/figure.svg
expect_rc 1
expect_err "cannot write none/figure.svg"
expect_out_lines 0
ok "tables, and the figure"
