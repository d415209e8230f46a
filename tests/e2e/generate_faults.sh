#!/bin/bash
# generate: what is refused before the run, and what is left when writing fails.
. "$(dirname "$0")/../e2e/generate_lib.sh"

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
refused 2 '/nonexistent: No such file' -p 'a cat' -o clip.y4m --meter replay:/nonexistent
refused 2 '.*Not a directory' -p 'a cat' -o clip.y4m --meter "replay:$root/LICENSE/trace"
refused 1 '.*not a trace' -p 'a cat' -o clip.y4m --meter "replay:$root/LICENSE"
refused 1 '.*Is a directory' -p 'a cat' -o clip.y4m --meter "replay:$root"
refused 1 'neither .* tokenizer/spiece.model' -p 'a cat' -o clip.y4m --weights "$root"
refused 2 'there is no folder /nonexistent' -p 'a cat' -o clip.y4m --weights /nonexistent
refused 2 'width 70' -p 'a cat' -o clip.y4m -W 70
refused 2 'unknown calibration "nope"' -p 'a cat' -o clip.y4m --calibration nope
refused 2 'clip.y4m/: .*give .mp4 or .y4m' -p 'a cat' -o clip.y4m/
refused 2 '--output is empty' -p 'a cat' -o ''
refused 1 "cannot write $(printf 'x%.0s' {1..260}).y4m: .* choose a shorter name" \
    -p 'a cat' -o "$(printf 'x%.0s' {1..260}).y4m"
expect_nothing
ok "refused before the run"

mkdir -p one/two
ln -s one/two three
ln -s two/clip.y4m one/link
refused 2 '.*same file' -p 'a cat' -o clip.y4m --latents ./clip.y4m
refused 2 '.*same file' -p 'a cat' -o "$PWD/clip.y4m" --latents one/../clip.y4m
refused 2 '.*same file' -p 'a cat' -o three/clip.y4m --latents one/two/clip.y4m
refused 2 '.*same file' -p 'a cat' -o three/clip.y4m --latents one/link
echo old >one/two/clip.y4m
ln one/two/clip.y4m hard
refused 2 '.*same file' -p 'a cat' -o three/clip.y4m --latents one/link
refused 2 '.*same file' -p 'a cat' -o three/clip.y4m --latents hard
expect test "$(cat hard)" = old
rm -r one three hard
ok "one file for clip and latents, however it is spelled"

mkdir clip.y4m
refused 1 'cannot write clip.y4m: Is a directory; name a file in that folder' -p 'a cat' -o clip.y4m
rmdir clip.y4m
echo >file
refused 1 'cannot write file/clip.y4m: Not a directory; a part of the path is a file' -p 'a cat' -o file/clip.y4m
mkfifo clip.mp4
refused 2 'clip.mp4: a pipe takes no .mp4|.*\.y4m' -p 'a cat' -o clip.mp4
rm file clip.mp4
"$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o /dev/stdout 2>"$err" | cat >"$out"
expect_err '^kinowatt: /dev/stdout is where the report goes; name another file for --output'
expect test ! -s "$out"
mkfifo pipe
cat pipe >copy &
ln -s pipe clip.y4m
generate -p 'a cat' -o clip.y4m
wait $!
expect_rc 0
generate -p 'a cat' -o other.y4m
expect cmp copy other.y4m
rm pipe copy clip.y4m other.y4m
expect_nothing
ok "folders, pipes and stdout as outputs"

run "$KINOWATT" generate $model -p 'a cat' -o /dev/null -W 8192 -H 8192 -f 401 -s 1
expect_rc 1
expect_err '^kinowatt: this needs [0-9.]+ GiB of memory .* there are [0-9.]+ GiB available of [0-9.]+ GiB; '
expect_err_lines 1
expect_nothing
ok "more memory than the machine has: the figures, before anything is loaded"

# Under a limit of the address space it ends with a line, wherever the limit is met.
if grep -q __asan_init "$KINOWATT"; then
    skip "a limit of the address space" "a sanitizer takes more than any"
else
    for limit in {140..420..20}; do
        (
            ulimit -v $((limit << 10)) -c 0
            OMP_NUM_THREADS=2 exec "$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o clip.y4m --meter none
        ) >"$out" 2>"$err"
        rc=$? last_command="generate with ulimit -v $limit MiB"
        if ((rc != 0)); then
            expect_rc 1
            expect_err '^(kinowatt|libgomp): .*(memory|Thread creation failed)'
            expect test ! -s "$out"
        fi
        ((limit == 200)) && expect_err 'this needs .* GiB of memory .* there are 0.[01][0-9] GiB available of '
        rm -f clip.y4m
    done
    expect_nothing
    ok "a limit of the address space: a line, no signal"
fi

# ---- Room for the outputs ----

expect_out_of_room() # FILE
{
    expect_rc 1
    expect_err "^kinowatt: cannot write $1: [0-9.]+ ([KM]iB|GiB|TiB) are needed on its disk and [0-9.]+ [KMGT]iB are free"
    expect_err_lines 1
    expect test ! -s "$out"
}

(
    ulimit -f 8
    exec "$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o clip.y4m
) >"$out" 2>"$err"
rc=$? last_command="generate with ulimit -f 8"
expect_rc 1
expect_err '^kinowatt: cannot write clip.y4m: it takes 30.09 KiB and a file may have 8.00 KiB; raise the limit'
expect_err_lines 1
expect test ! -s "$out"
expect_nothing
ok "a limit of a file's size that the clip passes: before anything is loaded"

# Runs a command with a disk of 64 KiB mounted on ./disk, which others do not see.
on_small_disk() # COMMAND
{
    run unshare -m bash -c "mount -t tmpfs -o size=64k none disk && { $1; }"
    sed -i '/warning: other processes used/d' "$err"
}
export model small_request="${small[*]}"
mkdir disk
on_small_disk true
if ((rc == 0)); then
    on_small_disk '$KINOWATT generate $model $small_request -p x -f 17 -o disk/clip.y4m'
    expect_out_of_room disk/clip.y4m
    on_small_disk '$KINOWATT generate $model $small_request -p x -o /dev/null -f 81 -W 128 -H 128 --latents disk/l.npy'
    expect_out_of_room disk/l.npy
    # each fits, both do not
    on_small_disk '$KINOWATT generate $model $small_request -p x -o disk/clip.y4m -f 9 --latents disk/l.npy'
    expect_out_of_room disk/clip.y4m
    on_small_disk '$KINOWATT generate $model $small_request -p x -o disk/clip.y4m && wc -c <disk/clip.y4m'
    expect_rc 0
    expect_out '^30811$'
    expect_out '^Written +disk/clip.y4m$'
    ok "a disk that the outputs do not fit on: before anything is loaded, with both figures"

    # where /proc does not show its descriptors a file cannot get its name at the end, and has one from the start
    mkdir empty
    run unshare -m bash -c \
        'mount --bind empty /proc/$$/fd && exec $KINOWATT generate $model $small_request -p x -o clip.y4m'
    rmdir empty
    expect_rc 0
    expect test "$(ls -A)" = $'clip.y4m\ndisk'
    expect test "$(wc -c <clip.y4m)" = 30811
    rm -f clip.y4m
    ok "where files must have a name: the same, and nothing else is left"

    # what was free when the run began may be gone when it ends
    printf '%s\n' kinowatt-trace,1 channel,cpu,package-0,0.001,,262143.3,0.0001,100 sample,0,0,1,,,,, >trace
    mkfifo pipe
    on_small_disk '
        $KINOWATT generate $model $small_request -p x -o disk/clip.y4m --latents disk/l.npy --meter replay:pipe &
        exec 4>pipe
        head -c 64k /dev/zero >disk/other 2>/dev/null
        cat trace >&4
        exec 4>&-
        wait $!; rc=$?; ls -A disk; exit $rc'
    expect_rc 1
    expect_err '^kinowatt: cannot write disk/clip.y4m: No space left on device; .*; the clip is in .*/clip.y4m$'
    expect_err '^kinowatt: cannot write disk/l.npy: No space left on device; .*; the latents are in .*/l.npy$'
    expect test "$(tail -n 1 "$out")" = other
    elsewhere=$(sed -n 's/^Written *\(.*\), .*/\1/p' "$out")
    expect test "$(sed -n 's/^Written *.*, //p' "$out")" = "${elsewhere%/*}/l.npy"
    generate -p x -o clip.y4m --latents l.npy
    expect cmp clip.y4m "$elsewhere"
    expect cmp l.npy "${elsewhere%/*}/l.npy"
    rm -r clip.y4m l.npy pipe trace "${elsewhere%/*}"
    ok "a disk that fills up during the run: clip and latents are elsewhere"

    # how large an mp4 is shows when it is written: then it is put where there is room
    run "$KINOWATT" doctor
    if grep -q '^ok  *mp4 ' "$out"; then
        on_small_disk '$KINOWATT generate $model -W 128 -H 128 -f 33 -s 1 -p x -o disk/clip.mp4; rc=$?; ls -A disk; exit $rc'
        expect_rc 1
        expect_err '^kinowatt: cannot write disk/clip.mp4: No space left on device; .*; the clip is in .*/clip.mp4$'
        expect_out '^denoise +[0-9.]+ (ms|s)'
        elsewhere=$(sed -n 's/^Written *//p' "$out")
        expect test "$(tail -n 1 "$out")" = "Written   $elsewhere"
        expect test "${elsewhere%/kinowatt-*/clip.mp4}" = "$TMPDIR"
        "$KINOWATT" generate $model -W 128 -H 128 -f 33 -s 1 -p x -o clip.mp4 >/dev/null 2>&1
        expect cmp clip.mp4 "$elsewhere"
        rm -rf clip.mp4 "${elsewhere%/*}"
        ok "a disk that an mp4 fills: the clip is elsewhere"
    else
        skip "a disk that an mp4 fills: the clip is elsewhere" "FFmpeg's libraries are not there"
    fi
else
    skip "a disk that the outputs do not fit on" "mounting is not allowed"
fi
rmdir disk

# ---- Failing when it writes ----

ln -s /dev/full clip.y4m
generate -p 'a cat' -o clip.y4m
expect_rc 1
expect_err 'cannot write clip.y4m: No space left on device'
expect_out '^denoise +[0-9.]+ (ms|s)'
expect test -z "$(grep Written "$out")"
rm -f ./*
ok "a device that is full: the report, and no clip"

# The run waits for its trace until the pipe is opened, and its outputs have been checked by then.
printf '%s\n' kinowatt-trace,1 channel,cpu,package-0,0.001,,262143.3,0.0001,100 sample,0,0,1,,,,, >trace
meanwhile() # COMMAND ARGUMENT...: generates, and runs the command after the outputs have been checked
{
    local command=$1
    shift
    mkfifo pipe
    "$KINOWATT" generate "$model" "${small[@]}" -p 'a cat' --meter replay:pipe "$@" >"$out" 2>"$err" &
    exec 4>pipe
    $command
    cat trace >&4
    exec 4>&-
    wait $!
    rc=$? last_command="generate $*"
    rm pipe
}
mkdir gone
meanwhile 'rmdir gone' -o gone/clip.y4m --latents latents.npy
expect_rc 1
expect_err '^kinowatt: cannot write gone/clip.y4m: No such file or directory; .*; the clip is in .*/clip.y4m$'
elsewhere=$(sed -n 's/^Written *\(.*\), latents.npy$/\1/p' "$out")
expect test "$(wc -c <"$elsewhere")" = 30811
rm -r "${elsewhere%/*}"
mkdir gone
meanwhile 'rmdir gone' -o clip.y4m --latents gone/latents.npy --json
expect_rc 1
expect_err '^kinowatt: cannot write gone/latents.npy: No such file or directory; .*; the latents are in .*/latents.npy$'
expect test "$(wc -c <clip.y4m)" = 30811
expect_json 'd["output"] == "clip.y4m"'
elsewhere=$(sed -n 's/.*the latents are in //p' "$err")
expect grep -q "\"latents\": \"$elsewhere\"" "$out"
rm clip.y4m
generate -p 'a cat' -o clip.y4m --latents latents.npy
expect cmp latents.npy "$elsewhere"
rm -r "${elsewhere%/*}"
mkdir gone
meanwhile 'rmdir gone' -o gone/same.y4m --latents gone/../gone/same.y4m.npy
elsewhere=$(sed -n 's/^Written *\(.*\), .*/\1/p' "$out")
expect cmp clip.y4m "$elsewhere"
expect cmp latents.npy "${elsewhere%/*}/same.y4m.npy"
expect test "$(ls -d "$TMPDIR"/kinowatt-* | wc -l)" = 1
rm -r "${elsewhere%/*}" clip.y4m latents.npy
mkdir gone
TMPDIR=/nonexistent/folder
meanwhile 'rmdir gone' -o gone/clip.y4m
TMPDIR=$base
expect_rc 1
expect_err '^kinowatt: cannot write gone/clip.y4m: No such file or directory; create the folder first$'
expect test -z "$(grep Written "$out")"
rm -f ./*
ok "a folder that goes away during the run: clip and latents are elsewhere"
