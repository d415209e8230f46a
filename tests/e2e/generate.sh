#!/bin/bash
# generate: a clip and its figures, the same bytes again, prompts of all kinds.
. "$(dirname "$0")/../e2e/generate_lib.sh"

# ---- What comes out ----

generate -p 'a cat' -o one.y4m
expect_rc 0
expect_out '^Model +wan2.1-t2v-nano, weights random:0:normal, seed 0$'
expect_out '^Request +64 x 64, 5 frames at 16 fps'
expect_out '^Engine +cpu, stack kinowatt-cpu.*, tokenizer bytes$'
for stage in text_encode denoise decode total; do expect_out "^$stage +[0-9.]+ (ms|s)"; done
expect_out '^Energy +GPU  '
expect_out '^Memory +[0-9.]+ MB of its own at the peak; predicted [0-9.]+ MB'
expect_out '^Predicted '
expect_out '^Written +one.y4m$'
expect_err_lines 1 # each byte is a token
expect test "$(head -c 9 one.y4m)" = YUV4MPEG2
expect test "$(wc -c <one.y4m)" -gt $((5 * 64 * 64 * 3 / 2))
ok "a clip, and its figures"

generate -p 'a cat' -o two.y4m --json --latents latents.npy
expect_rc 0
expect cmp one.y4m two.y4m
expect_json 'd["schema"] == "kinowatt.generation/1" and [s["name"] for s in d["stages"]] == ["text_encode", "denoise", "decode"]'
expect_json 'd["total"]["latency_s"] >= sum(s["latency_s"] for s in d["stages"]) > 0'
expect_json 'all((v is None) == (k in s.get("absent", {})) for s in d["stages"] + [d["total"]] for k, v in s["energy_j"].items())'
expect_json 'd["prompt"] == {"text": "a cat", "tokens": 6, "whole_tokens": 6} and d["request"]["prompt_tokens"] == 6'
expect_json 'd["libraries"]["onednn"].count(".") == 2 and d["libraries"]["sentencepiece"].count(".") == 2 and "native_bf16" in d'
expect_json 'd["memory"]["peak_anonymous_bytes"] > d["memory"]["weights_bytes"] > 1e7'
expect test "$(head -c 6 latents.npy | tail -c 5)" = NUMPY
generate -p 'a cat' -o three.y4m --seed 18446744073709551615 --json
expect_rc 0
expect_json 'd["seed"] == "18446744073709551615"'
expect test "$(cmp -s one.y4m three.y4m; echo $?)" = 1
generate -p 'a dog' -n 'rain' -o four.y4m --weights random:3:uniform
expect_rc 0
expect_out 'weights random:3:uniform'
expect test "$(cmp -s one.y4m four.y4m; echo $?)" = 1
ok "one seed gives one clip; --json, --latents"
rm -f ./*

run "$KINOWATT" doctor
if grep -q '^ok  *mp4 ' "$out"; then
    generate -p 'a cat' -o one.mp4
    expect_rc 0
    generate -p 'a cat' -o two.mp4
    expect_rc 0
    expect cmp one.mp4 two.mp4
    expect grep -aq '"seed":0,"weights":"random:0:normal"' one.mp4
    generate -p 'a cat' -o three.mp4 --seed 9223372036854775808 --weights random:7
    expect grep -aq '"seed":"9223372036854775808","weights":"random:7:normal"' three.mp4
    if command -v ffprobe >/dev/null; then
        expect test "$(ffprobe -v error -count_frames -show_entries stream=codec_name,width,height,nb_read_frames \
            -of csv=p=0 one.mp4)" = h264,64,64,5
    fi
    ok "an .mp4 with its settings, the same bytes again"
else
    refused 2 '.*\.y4m' -p 'a cat' -o one.mp4
    skip "an .mp4 with its settings, the same bytes again" "FFmpeg's libraries are not there"
fi
rm -f ./*

for dtype in f32 bf16; do
    generate -p 'a cat' -o $dtype.y4m --dtype $dtype
    if [[ $dtype == bf16 && $rc == 2 ]]; then
        expect_err 'bf16'
    else
        expect_rc 0
        expect_out "^Engine .* $dtype"
    fi
done
ok "--dtype"
rm -f ./*

# ---- The prediction beside ----

# of a CPU that is not this one, and with few rates
cat >guess.json <<'JSON'
{"schema": "kinowatt.calibration/1", "stack": "kinowatt-cpu-f32", "hardware": "cpu", "date": "2026-01-01", "basis": "a guess",
 "machine": {"cpu": "another CPU", "cores": 2, "threads": 2, "bf16_flop_per_s": null, "fp32_flop_per_s": 1e11,
             "bytes_per_s": 1e10, "source": "a guess"},
 "parameters": {"all": {"prior_log_sd": 0.5, "log_value": 0, "source": "a guess"}},
 "rates": {"attention/f32/hd128": {"efficiency": 0.5, "parameter": "all", "source": "a guess"},
           "conv/f32/c128/k27": {"efficiency": 0.5, "parameter": "all", "source": "a guess"},
           "gemm/f32/n512": {"efficiency": 0.5, "parameter": "all", "source": "a guess"}},
 "memory": {"efficiency": 0.5, "parameter": "all"}, "host": {"bytes_per_s": 1e10, "parameter": "all"},
 "launch": {"seconds": 1e-6, "dispatch_seconds": 0, "parameter": "all"},
 "errors": {"session_log_sd_time": 0.1, "session_log_sd_power": 0, "model_log_sd_time": 0.5, "model_log_sd_energy": 0,
            "model_log_sd_power": 0},
 "host_energy": null, "flops": null, "range": null, "sessions": {}}
JSON
guessed=(-p 'a cat' -o clip.y4m --dtype f32 --calibration ./guess.json)
generate "${guessed[@]}"
expect_rc 0
expect_out '^Stage +Time +Predicted +90 % +off by$'
expect_out '^ +CPU energy .*\(calibrations of a CPU hold times, and no power\)$'
expect_err '^kinowatt: warning: .* was made on another CPU with 2 cores, and this machine is '
expect_err '^kinowatt: warning: the calibration has no rate for conv/f32/c64/k27; conv/f32/c128/k27 stands in for it$'
expect_err_lines 3 # and each byte is a token
generate "${guessed[@]}" --json
expect_rc 0
expect_json 'sum("another CPU" in w or "stands in" in w for w in d["warnings"]) == 2'
expect_json 'd["total"]["unpredicted"]["gpu"] == "no GPU takes part"'
ok "a calibration's warnings stand beside its prediction, as predict gives them"
rm -f ./*

# ---- Prompts ----

generate -p '' -o clip.y4m
expect_rc 0
expect_out '; prompt 1, negative prompt 1,'
printf 'x%.0s' {1..100000} >large
generate -p "$(cat large)" -o clip.y4m -g 1 -s 1
expect_rc 0
expect_out '; prompt 512, padded'
expect_err 'warning: .*512'
expect_err_lines 2
rm -f ./*
refused 2 'the prompt.*UTF-8' -p $'a\xffb' -o clip.y4m
expect_nothing
ok "prompts: empty, very long, not UTF-8"

# ---- What is not timed ----

# oneDNN writes each kernel that it makes to a file; those of its general product are there before any operator
# has run, so that no stage is charged for them
mkdir outputs
run env DNNL_JIT_DUMP=1 KINOWATT_DUMP=outputs "$KINOWATT" generate "$model" -W 32 -H 32 -f 1 -s 1 -p 'a cat' --dtype f32 \
    -o clip.y4m
expect_rc 0
first=outputs/$(head -n 1 outputs/index.txt | cut -d ' ' -f 1).f32
expect test -s "$first"
late=$(find . -maxdepth 1 '(' -name 'dnnl_dump*f32_copy*' -o -name 'dnnl_dump*avx_gemm_f32*' ')' -newer "$first")
expect test -z "$late"
ok "kernels of products are made before the first stage"
rm -rf ./*
