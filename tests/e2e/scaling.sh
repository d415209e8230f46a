#!/bin/bash
# kinowatt scaling: tables, figures and their rows, and what it refuses.
. "$(dirname "$0")/../e2e/lib.sh"
model=wan2.1-t2v-1.3b

usage() # REGEX
{
    expect_rc 2
    expect_out_lines 0
    expect_err_lines 1
    expect_err "^kinowatt: $1"
}

run "$KINOWATT" scaling "$model"
expect_rc 0
expect_out '^Resolution at 81 frames, 50 steps$'
expect_out '^Frames at 832 x 480, 50 steps$'
expect_out '^Steps at 832 x 480, 81 frames$'
expect_out '^2560 x 1440 +302400 '
expect_out ' 832 x 480 .* 1 min 40 s +19\.2 Wh$' # as published
expect_out 'add -W 1280 -H 720 -s 50\.$'
ok "all three laws, with what is published"

run "$KINOWATT" scaling "$model" --axis steps --values 20,10 --csv
expect_rc 0
expect test "$(head -n 1 "$out" | tr ',' '\n' | wc -l)" = 27
expect test "$(grep -c ',predicted,.*,total,' "$out")" = 2
# components add up to the total, and 20 steps denoise twice as long as 10
awk -F, '$2 == "predicted" { if ($15 == "total") total[$12] = $17; else sum[$12] += $17
        if ($15 == "mlp") mlp[$12] = $17 }
    END { for (s in total) if ((d = sum[s] / total[s] - 1) > 1e-9 || d < -1e-9) exit 1
        d = mlp[20] / mlp[10] - 2; exit !(d < 1e-9 && d > -1e-9) }' "$out" || problem "parts do not add up"
ok "CSV: components add up"

run "$KINOWATT" scaling "$model" --axis frames --values 81,49 -W 1280 -H 720 --json
expect_rc 0
expect_out '"schema": "kinowatt.scaling/1"'
expect_out '"x": 81,'
expect test "$(grep -c '"components"' "$out")" = 2
expect test "$(grep -c '"sweep": "frames"' "$out")" = 32
ok "JSON: points and published rows"

run "$KINOWATT" scaling "$model" --method paper --axis frames --values 81 -W 1280 -H 720
expect_rc 0
expect_out '^ +81 +75600 +6 min 47 s .* 79\.2 Wh .* 700 W '
ok "the paper's closed form, without intervals"

run "$KINOWATT" scaling mochi-1-preview --axis resolution
expect_rc 0
expect_out ' Self-attention +MLP +VAE decoder +CPU offload +Other$'
expect_out '^ +256 x 256 .* 7[0-9.]+ % +[0-9.]+ %$' # offload takes most of the smallest clip
ok "CPU offload is a part of its own, and what takes no time is none"

run "$KINOWATT" scaling cogvideox-nano --axis frames --csv -o cog
expect_rc 0
# 1 + 8 k frames, and no step between them falls outside the law
awk -F, '$15 == "total" { n++; if ($11 % 8 != 1 || $26 < 0 || $26 > 2 || $27 < 0 || $27 > 2) exit 1 }
    END { exit n != 21 }' "$out" || problem "exponents of the frames of CogVideoX"
ok "CogVideoX: exponents of clips that are alike"

run "$KINOWATT" scaling "$model" -o new/deep/
expect_rc 0
expect_out '^Figures and their rows are in new/deep/$'
expect test "$(cd new/deep && echo *)" = \
    "scaling-frames.csv scaling-frames.svg scaling-resolution.csv scaling-resolution.svg scaling-steps.csv scaling-steps.svg"
for axis in resolution frames steps; do
    expect test "$(head -c 5 "new/deep/scaling-$axis.svg")" = "<svg "
    expect test "$(tail -n 1 "new/deep/scaling-$axis.svg")" = "</svg>"
    expect grep -q "90 % interval" "new/deep/scaling-$axis.svg"
    expect grep -q ",arXiv 2509.19222," "new/deep/scaling-$axis.csv"
    if command -v xmllint >/dev/null; then expect xmllint --noout "new/deep/scaling-$axis.svg"; fi
done
mkdir there && echo mine >there/notes && echo old >there/scaling-steps.svg
run "$KINOWATT" scaling "$model" --axis steps -o there --csv
expect_rc 0
expect cmp "$out" there/scaling-steps.csv
expect cmp there/scaling-steps.svg new/deep/scaling-steps.svg # the same bytes, the old file replaced
expect grep -qx mine there/notes
expect test "$(find there -type f | wc -l)" = 3
ok "-o writes a figure and its rows for each axis, and leaves the rest alone"

echo file >plain
run "$KINOWATT" scaling "$model" -o plain
expect_rc 1
expect_err_lines 1
expect_err "^kinowatt: cannot write into 'plain': Not a directory"
run "$KINOWATT" scaling "$model" -o plain/x
expect_rc 1
expect_err_lines 1
expect grep -qx file plain
run bash -c 'ulimit -f 8; trap "" XFSZ; exec "$KINOWATT" scaling "$1" -o small' sh "$model"
expect_rc 1
expect_err_lines 1
expect test ! -e small
run bash -c 'ulimit -f 8; trap "" XFSZ; exec "$KINOWATT" scaling "$1" -o there' sh "$model"
expect_rc 1
expect cmp there/scaling-steps.svg new/deep/scaling-steps.svg
expect test "$(find there -type f | wc -l)" = 3
expect test -z "$(find . -name '*kinowatt*')"
ok "a folder that can't be written: one line, nothing half-written"

run "$KINOWATT" scaling
usage 'scaling needs a model'
run "$KINOWATT" scaling wan2.1-t2v-1.3c
usage ".*wan2.1-t2v-1.3b"
run "$KINOWATT" scaling "$model" --axis time
usage "unknown axis 'time'; resolution, frames and steps are"
run "$KINOWATT" scaling "$model" --values 1,2
usage '--values needs --axis'
run "$KINOWATT" scaling "$model" --axis resolution --values 832x480,1280
usage "--values: '1280' is not valid for the axis resolution"
run "$KINOWATT" scaling "$model" --axis resolution --values 832x480,833x480
usage 'width 833 is no multiple of 16'
run "$KINOWATT" scaling "$model" --axis steps --values 5,
usage "--values: '' is not valid"
run "$KINOWATT" scaling "$model" --axis frames -f 81
usage '--num-frames is what the axis frames varies'
run "$KINOWATT" scaling wan2.1-t2v-14b --method paper
usage "the paper's closed form"
ok "bad input: one line, exit code 2"
