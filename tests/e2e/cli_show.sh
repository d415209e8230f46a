#!/bin/bash
# models, hardware, doctor.
. "$(dirname "$0")/../e2e/lib.sh"
model=wan2.1-t2v-1.3b

run "$KINOWATT" models
expect_rc 0
expect_err_lines 0
expect_out "^$model +WanPipeline"
expect_out '^wan2.1-t2v-14b .* 14\.29 B '
expect_out '^wan2.1-t2v-nano: ours, .* never trained'
ok "models"

run "$KINOWATT" models --json
expect_rc 0
expect_json 'd["schema"] == "kinowatt.models/1"'
expect_json 'all(bool(m["note"]) == m["name"].endswith("-nano") for m in d["models"])'
expect_json '{m["name"]: m["parameters"]["denoiser"] for m in d["models"]}["wan2.1-t2v-1.3b"] == 1418996800'
expect_json '{m["name"]: m["parameters"]["text_encoder"] for m in d["models"]}["wan2.1-t2v-14b"] == 5680910336'
ok "models --json has the checkpoints' counts of parameters"

run "$KINOWATT" models --csv
expect_rc 0
expect_out '^model,pipeline,text_encoder_parameters,denoiser_parameters,'
expect_out "^$model,WanPipeline,5680910336,1418996800,"
ok "models --csv"

run "$KINOWATT" models "$model"
expect_rc 0
expect_out '^Tokens +32760 '
expect_out '^denoise +step +50 '
expect_out '^total .* PFLOP$'
run "$KINOWATT" models "$model" --json
expect_json 'd["schema"] == "kinowatt.model/1" and d["defaults"]["tokens"] == 32760'
expect_json 'abs(sum(p["calls"] * p["flop"] for s in d["stages"] for p in s["phases"]) / d["flop"] - 1) < 1e-9'
run "$KINOWATT" models "$model" --csv
expect_out '^stage,phase,calls,flop_per_call,flop$'
ok "models NAME: tokens, and phases that add up to the total"

cp -R "$root/data/models/$model" mine
sed -i 's/"num_layers": *30/"num_layers": 20/' mine/transformer/config.json
run "$KINOWATT" models ./mine --json
expect_rc 0
expect_json '900e6 < d["parameters"]["denoiser"] < 1000e6'
ok "a folder with edited numbers is another model"

run "$KINOWATT" hardware
expect_rc 0
expect_out '^h100-sxm .*989\.4 TFLOP/s +3\.35 TB/s .*700 W +295$'
expect_out '^cpu +this machine'
run "$KINOWATT" hardware --json
expect_json 'd["schema"] == "kinowatt.hardware_list/1" and len(d["hardware"]) >= 12'
run "$KINOWATT" hardware --csv
expect_out '^hardware,title,bf16_flop_per_s,memory_bandwidth_bytes_per_s,'
ok "hardware"

run "$KINOWATT" hardware h100-sxm
expect_rc 0
expect_err_lines 0
expect_out 'attention .* = +295 tokens$'
expect_out 'MLP .* = +590 tokens$'
expect_out '^bf16_flop_per_s +989\.4 TFLOP/s +20[0-9-]+ +\[1\]'
expect_out '^  \[1\] NVIDIA H100'
ok "hardware h100-sxm: the paper's thresholds, 295 and 590"

run "$KINOWATT" hardware h200 --csv
expect_rc 0
expect_out '^key,value,unit,source,date,note$'
expect_out '^memory_bandwidth_bytes_per_s,4800000000000,'
run "$KINOWATT" hardware h200 --json -o mine.json
expect_rc 0
run "$KINOWATT" predict "$model" --hardware h200 --csv
cut -d, -f5- "$out" >named
run "$KINOWATT" predict "$model" --hardware ./mine.json --csv
cut -d, -f5- "$out" >printed
expect cmp named printed
ok "hardware NAME --json is a profile that predicts the same"

run "$KINOWATT" hardware cpu --json
expect_rc 0
expect_json 'd["kind"] == "cpu" and d["values"]["num_cores"]["value"] >= 1'
expect_json 'd["values"]["memory_bandwidth_bytes_per_s"]["value"] > 1e8'
ok "hardware cpu is this machine"

run "$KINOWATT" doctor
expect_rc 0
expect_err_lines 0
for what in version data models hardware stacks; do expect_out "^ok +$what "; done
expect_out '^ok +engine '
expect_out '^(ok|missing) +bf16 '
expect_out '^(ok|missing) +mp4 '
expect_out '^(ok|missing) +nvml gpu '
expect_out '^(ok|missing) +rapl cpu '
expect_out '^(ok|missing) +rapl ram '
run "$KINOWATT" doctor --json
expect_rc 0
expect_json 'd["schema"] == "kinowatt.doctor/1" and all(c["state"] != "broken" for c in d["checks"])'
expect_json 'all(c["state"] == "ok" or c["remedy"] for c in d["checks"])'
ok "doctor: nothing is broken, and what is missing has a remedy"

# the loader dies of a library that was cut short behind its header
mkdir damaged
for library in $(PATH=$PATH:/sbin ldconfig -p | sed -n 's/^[[:space:]]*libavutil\.so\.[0-9]* .*x86-64.* => //p'); do
    head -c 4096 "$library" >"damaged/${library##*/}"
done
run "$KINOWATT" doctor
if [[ $(ls damaged) ]] && grep -q '^ok  *mp4 ' "$out"; then
    LD_LIBRARY_PATH=$PWD/damaged run "$KINOWATT" doctor
    expect_rc 0
    expect_err_lines 0
    expect_out '^missing +mp4 .*FFmpeg'
    ok "doctor: FFmpeg's libraries are damaged"
else
    skip "doctor: FFmpeg's libraries are damaged" "they are not there"
fi
rm -r damaged

KINOWATT_DATA=$root/data run "$KINOWATT" models
expect_rc 0
KINOWATT_DATA=/nonexistent run "$KINOWATT" models
expect_rc 1
expect_err_lines 1
run "$KINOWATT" doctor --data /nonexistent
expect_rc 1
expect_out '^broken +data '
ok "the data folder: KINOWATT_DATA, --data"
