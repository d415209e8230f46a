#!/bin/bash
# generate: what is refused before the run, meters that end, and what is left when a run or its writing fails.
. "$(dirname "$0")/../e2e/lib.sh"

model=wan2.1-t2v-nano
small=(-W 64 -H 64 -f 5 -s 2)
generate() # ARGUMENT...
{
    run "$KINOWATT" generate "$model" "${small[@]}" "$@"
}

# Nothing of a clip, finished or not, is in the folder.
expect_nothing()
{
    expect test -z "$(ls -A)"
}

# Says it in one line, with the exit code, and leaves nothing.
refused() # RC REGEX ARGUMENT...
{
    local code=$1 words=$2
    shift 2
    generate "$@"
    expect_rc "$code"
    expect_err "^kinowatt: $words"
    expect_err_lines 1
    expect test ! -s "$out"
}

# ---- Refused before the run ----

refused 2 'generate needs a prompt' -o clip.y4m
refused 2 'generate needs a file' -p 'a cat'
refused 2 '.*\.mp4' -p 'a cat' -o clip.avi
refused 1 'cannot write /nonexistent/clip.y4m' -p 'a cat' -o /nonexistent/clip.y4m
refused 1 'cannot write /nonexistent/l.npy' -p 'a cat' -o clip.y4m --latents /nonexistent/l.npy
refused 2 '.*same file' -p 'a cat' -o clip.y4m --latents clip.y4m
refused 2 "--seed 'x'" -p 'a cat' -o clip.y4m --seed x
refused 2 "--seed '-1'" -p 'a cat' -o clip.y4m --seed -1
refused 2 "--seed '18446744073709551616'" -p 'a cat' -o clip.y4m --seed 18446744073709551616
refused 2 "--dtype 'fp8'" -p 'a cat' -o clip.y4m --dtype fp8
refused 2 "--device 'tpu'" -p 'a cat' -o clip.y4m --device tpu
refused 3 '.*CPU' -p 'a cat' -o clip.y4m --device cuda
refused 2 "--meter 'plug'" -p 'a cat' -o clip.y4m --meter plug
refused 2 '.*' -p 'a cat' -o clip.y4m --meter replay:/nonexistent
refused 2 'there is no folder /nonexistent' -p 'a cat' -o clip.y4m --weights /nonexistent
refused 2 'width 70' -p 'a cat' -o clip.y4m -W 70
expect_nothing
ok "refused before the run"

run "$KINOWATT" generate $model -p 'a cat' -o clip.y4m -W 8192 -H 8192 -f 401 -s 1
expect_rc 1
expect_err '^kinowatt: this needs [0-9.]+ GiB of memory .* there are [0-9.]+ GiB'
expect_err_lines 1
expect_nothing
ok "more memory than the machine has: both figures, before anything is loaded"

# ---- Meters ----

{
    echo kinowatt-trace,1
    echo channel,cpu,package-0,0.001,,262143.3,0.0001,100
    for i in {0..2000}; do echo "sample,$((i / 20)).$(printf %03d $((i % 20 * 50))),0,$((i * 2)),,,,,"; done
} >trace
generate -p 'a cat' -o clip.y4m --meter replay:trace
expect_rc 0
expect_out '^Stage +Time +CPU energy +CPU power'
expect_out '^ +CPU  [0-9.]+ m?Wh  \(.*, measured\)'
expect_out '^Energy +GPU  .*absent: '
generate -p 'a cat' -o clip.y4m --meter none
expect_rc 0
expect_out 'GPU  .*absent: metering is off'
head -n 5 trace >short
generate -p 'a cat' -o clip.y4m --meter replay:short
expect_rc 0
expect_out '^ +CPU  .*absent: '
ok "meters: a trace, none, one that stops during the run"
rm -f ./*

# ---- Failing while it runs ----

ln -s /dev/full clip.y4m
generate -p 'a cat' -o clip.y4m
expect_rc 1
expect_err 'cannot write clip.y4m: No space left on device'
expect_out '^denoise +[0-9.]+ (ms|s)'
expect test -z "$(grep Written "$out")"
rm -f ./*
(
    ulimit -f 8
    exec "$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o clip.y4m
) >"$out" 2>"$err"
expect grep -q 'cannot write clip.y4m' "$err"
expect_nothing
ok "a disk that is full: the report, and no clip"

# too long to end before the signal
for signal in INT TERM KILL; do
    run timeout --preserve-status -s $signal 2 "$KINOWATT" generate $model -W 256 -H 256 -f 81 -s 50 -p 'a cat' \
        -o clip.y4m
    case $signal in
    INT) expect_rc 130 ;;
    TERM) expect_rc 143 ;;
    KILL) expect_rc 137 ;;
    esac
    expect test ! -s "$out"
    expect_nothing
done
ok "stopped by a signal: nothing is left"
