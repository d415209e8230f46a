#!/bin/bash
# predict, explain, compare: what is printed, and that JSON, CSV and tables agree.
. "$(dirname "$0")/../e2e/lib.sh"
model=wan2.1-t2v-1.3b

python() # EXPRESSION over `d`, the documents named after it
{
    checked=1
    command -v python3 >/dev/null || return 0
    python3 - "$@" >"$base/json" 2>&1 <<'PYTHON' || problem "Python: $1: $(tail -n 1 "$base/json")"
import csv, json, math, sys
def refuse(name): raise ValueError(name + " is not JSON")
def load(path):
    text = open(path)
    return list(csv.DictReader(text)) if path.endswith(".csv") else json.load(text, parse_constant=refuse)
def near(a, b): return math.isclose(float(a), float(b), rel_tol=1e-6)
d = [load(path) for path in sys.argv[2:]]
assert eval(sys.argv[1]), "false"
PYTHON
}

run "$KINOWATT" predict "$model"
expect_rc 0
expect_out "^Model +$model$"
expect_out '^Request +832 x 480, 81 frames at 16 fps \(5\.06 s\), 50 steps, guidance 5 \(2 passes a step\)$'
expect_out '^Tokens +32760 from a latent of 21 x 60 x 104'
expect_out '^Hardware +h100-sxm, stack diffusers-0\.34, method kernel \(default\)$'
expect_out '^ +- hardware h100-sxm \(the default\)$'
expect_out '^ +- stack diffusers-0\.34 \(the default\)$'
expect_out '^arXiv 2509\.19222, resolution sweep +H100-SXM-80GB +1 min 40 s +[-+]'
for stage in text_encode denoise decode; do
    expect_out "^$stage .*FLOP .* m?s .*Wh .* W  (launches|memory|compute|power)$"
done
expect_out '^total '
expect_out '^Latency .*\(.* – .*modelled\)$'
expect_out '^Energy +GPU +[0-9.]+ Wh '
expect_out '^ +CPU '
expect_out '^ +RAM '
expect_out '^Memory +[0-9.]+ GB '
expect test "$(grep -cv '^kinowatt: warning: ' "$err")" = 0
expect test "$(wc -L <"$out")" -le 110
ok "predict, for people"

run "$KINOWATT" predict "$model" --hardware h100-sxm --stack diffusers-0.34 --method kernel -f 83
expect_rc 0
expect_out '81 frames \(of 83 asked for\)'
expect_out '^Hardware +h100-sxm, stack diffusers-0\.34, method kernel$'
ok "predict says which frames the pipeline makes, and no default where there is none"

"$KINOWATT" predict "$model" --json >a.json 2>a.err
expect test ! -s a.err
"$KINOWATT" predict "$model" --csv >a.csv 2>/dev/null
python 'd[0]["schema"] == "kinowatt.prediction/1"' a.json
python 'set("model hardware stack method request stages components total assumptions warnings".split()) <= set(d[0])' a.json
python '[s["name"] for s in d[0]["stages"]] + ["total"] == [r["stage"] for r in d[1]]' a.json a.csv
python 'all(near(s["latency_s"]["value"], r["latency_s"]) for s, r in zip(d[0]["stages"] + [d[0]["total"]], d[1]))' a.json a.csv
python 'all(near(s["flop"], r["flop"]) for s, r in zip(d[0]["stages"] + [d[0]["total"]], d[1]))' a.json a.csv
python 'near(d[0]["total"]["energy_j"]["gpu"]["value"], d[1][-1]["gpu_energy_j"])' a.json a.csv
python 'near(sum(float(r["latency_s"]) for r in d[0][:-1]), d[0][-1]["latency_s"])' a.csv
ok "predict: JSON and CSV agree, stages add up, warnings are in the document"

"$KINOWATT" predict "$model" -s 100 --json >b.json
python 'all(near(2 * a["flop"], b["flop"]) for a, b in zip(d[0]["stages"], d[1]["stages"]) if a["name"] == "denoise")' a.json b.json
python 'all(near(2 * a["latency_s"]["value"], b["latency_s"]["value"]) for a, b in zip(d[0]["stages"], d[1]["stages"]) if a["name"] == "denoise")' a.json b.json
ok "twice the steps are twice the denoise stage"

run "$KINOWATT" predict "$model" --method paper
expect_rc 0
expect_out 'method paper$'
expect_out '^denoise .* –  .* –  '
run "$KINOWATT" predict "$model" --method flops --json
expect_rc 0
ok "the other methods"

run "$KINOWATT" explain "$model"
expect_rc 0
for component in text_encoder self_attention cross_attention mlp vae_decoder total; do expect_out "^$component "; done
expect_out '^total .* 100\.0 % .* 100\.0 %$'
ok "explain, for people"

"$KINOWATT" explain "$model" --csv >e.csv 2>/dev/null
"$KINOWATT" explain "$model" --json >e.json 2>e.err
"$KINOWATT" explain "$model" --operators --csv >o.csv 2>/dev/null
"$KINOWATT" explain "$model" --operators --json >o.json
expect test ! -s e.err
python 'd[0]["schema"] == "kinowatt.explanation/1" and "operators" not in d[0]' e.json
python '[c["name"] for c in d[0]["components"]] + ["total"] == [r["component"] for r in d[1]]' e.json e.csv
python 'near(sum(float(r["latency_s"]) for r in d[0][:-1]), d[0][-1]["latency_s"])' e.csv
python 'near(sum(float(r["latency_share"]) for r in d[0][:-1]), 1)' e.csv
python 'near(sum(o["flop_executed"] for o in d[0]["operators"]), d[0]["total"]["flop_executed"])' o.json
python 'near(sum(o["launches"] for o in d[0]["operators"]), d[0]["total"]["launches"])' o.json
python 'len(d[0]["operators"]) == len(d[1])' o.json o.csv
ok "explain: components and operators add up, JSON and CSV agree"

run "$KINOWATT" explain "$model" --against kinowatt
expect_rc 0
expect_out '^\(1\) diffusers-0\.34   \(2\) kinowatt '
expect_out '^self_attention .* x$'
run "$KINOWATT" explain "$model" --against kinowatt --operators
expect_out '^\(1\) +self_attention '
expect_out '^\(2\) +self_attention '
"$KINOWATT" explain "$model" --against kinowatt --csv >x.csv 2>/dev/null
"$KINOWATT" explain "$model" --stack kinowatt --against diffusers-0.34 --csv >y.csv 2>/dev/null
python 'all(near(a["latency_s"], b["against_latency_s"]) for a, b in zip(d[0], d[1]))' x.csv y.csv
python 'near(d[0][-1]["ratio_bytes"], 1 / float(d[1][-1]["ratio_bytes"]))' x.csv y.csv
python 'float(d[0][-1]["ratio_launches"]) < 1 and float(d[0][-1]["ratio_bytes"]) < 1' x.csv
python 'near(d[0]["against"]["total"]["latency_s"], d[1][-1]["against_latency_s"])' <("$KINOWATT" explain "$model" --against kinowatt --json) x.csv
ok "explain --against: both bills, and the reverse is the inverse"

run "$KINOWATT" predict "$model" -f 1 -s 1
expect_out '^Request +832 x 480, 1 frame at 16 fps \(62\.5 ms\), 1 step, '
ok "one of them is singular"

run "$KINOWATT" explain "$model" --calibration diffusers-0.40@h200 --against kinowatt --json
expect_json 'd["hardware"] == d["against"]["hardware"] == "h200" and d["stack"] == "diffusers-0.40"'
ok "explain --calibration: both bills on its hardware"

run "$KINOWATT" compare
expect_out '^cogvideox-2b +\[2\] +720 x 480 +49 +50 +~35\.3 s +~6\.45 Wh '
expect_out '^cogvideox-2b +\[2\] offload +720 x 480 +49 +50 +~44\.8 s '
expect_out '^ltx-video-0\.9\.7-dev +\[2\] +896 x 640 +121 +30 +14\.3 s +2\.48 Wh '
expect_out '^~ computed from runs with fewer steps, not measured$'
expect_rc 0
expect_out "^$model +predicted "
expect_out '^wan2.1-t2v-14b +predicted '
expect_out "^$model +\\[1\\] +1280 x 720 +81 +50 +6 min 50 s +78\\.8 Wh"
expect_out "^$model +as \\[1\\] +1280 x 720 +81 +50 "
expect_out '^mochi-1-preview +\[1\] '
expect_out '^  \[1\] delavande2025_models\.csv on H100-SXM-80GB: '
run "$KINOWATT" compare "$model" -s 20
expect_rc 0
expect_out "^$model +predicted .* 20 "
expect test "$(grep -c '\[' "$out")" = 0
"$KINOWATT" compare "$model" --json >c.json
"$KINOWATT" compare "$model" --csv >c.csv 2>/dev/null
python 'd[0]["schema"] == "kinowatt.comparison/1"' c.json
"$KINOWATT" predict "$model" -W 1280 -H 720 --json >p.json
python 'near([r for r in d[0]["rows"] if r["width"] == 1280 and r["source"] == "predicted"][0]["latency_s"], d[1]["total"]["latency_s"]["value"])' c.json p.json
python 'near([r for r in d[0]["rows"] if r["source"] == "delavande2025_models"][0]["latency_s"], 410.04)' c.json
python 'near(d[0]["rows"][0]["latency_s"], d[1]["total"]["latency_s"]["value"])' c.json a.json
python 'near(d[0]["rows"][0]["per_video_second"]["latency_s"] * 81 / 16, d[0]["rows"][0]["latency_s"])' c.json
python 'near(d[0]["rows"][0]["per_megapixel_frame"]["gpu_energy_wh"] * 832 * 480 * 81 / 1e6 * 3600, d[0]["rows"][0]["gpu_energy_j"])' c.json
python 'near(d[0]["rows"][0]["per_clip"]["gpu_energy_wh"], d[1][0]["gpu_energy_wh_per_clip"])' c.json c.csv
ok "compare: per clip, second of video and megapixel-frame, published rows and the same requests beside"

"$KINOWATT" predict "$model" --json >again.json
expect cmp a.json again.json
ok "the same request gives the same bytes"
