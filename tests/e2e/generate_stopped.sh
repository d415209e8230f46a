#!/bin/bash
# generate: stopped by signals, at any moment: what is said, and what is left.
. "$(dirname "$0")/../e2e/lib.sh"

export OMP_WAIT_POLICY=passive # other tests run beside it
model=wan2.1-t2v-nano
small=(-W 64 -H 64 -f 5 -s 2)

# Too long to end before the signal.
long() # SECONDS SIGNAL ARGUMENT...
{
    local after=$1 signal=$2
    shift 2
    run timeout --preserve-status -s "$signal" "$after" "$KINOWATT" generate $model -W 256 -H 256 -f 81 -s 50 \
        -p 'a cat' -o clip.y4m "$@"
    expect test ! -s "$out"
}

# In the background; its process id is in `pid` and its exit code, at the end, in `status`. bash 5.2 may wait for
# ever for a process that ended while another was started.
generate() # ARGUMENT...
{
    (
        "$KINOWATT" generate $model -p 'a cat' "$@" &
        echo $! >pid
        wait $!
        echo $? >status
    ) &
}
exit_code()
{
    until [[ -s status ]]; do sleep 0.05; done
    cat status
}

for signal in INT TERM HUP; do
    long 4 $signal
    case $signal in
    INT) expect_rc 130 ;;
    TERM) expect_rc 143 ;;
    HUP) expect_rc 129 ;;
    esac
    expect_err '^kinowatt: stopped (in (text_encode|denoise, step [0-9]+ of 50)|while reading the weights); no clip was written$'
    expect_err_lines 1
    expect_nothing
done
ok "stopped by a signal: where, in one line, and nothing is left"

# A second signal, later, ends it at once: the clip is a pipe that nobody reads, so that it would go on.
mkfifo pipe
exec 4<>pipe
head -c 65536 /dev/zero >&4
ln -s pipe clip.y4m
"$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o clip.y4m --latents l.npy >"$out" 2>"$err" &
until [[ -s l.npy ]]; do sleep 0.05; done
sleep 0.5
kill -TERM $!
sleep 2.5
kill -TERM $!
wait $!
rc=$? last_command="generate, stopped twice"
expect_rc 143
expect test ! -s "$err"
exec 4>&-
rm -f ./*
ok "a second signal"

# Before anything runs: the meter waits for its trace.
mkfifo trace
"$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o clip.y4m --meter replay:trace >"$out" 2>"$err" &
exec 4>trace
kill -TERM $!
printf '%s\n' kinowatt-trace,1 channel,cpu,package-0,0.001,,262143.3,0.0001,100 sample,0,0,1,,,,, >&4
exec 4>&-
wait $!
rc=$? last_command="generate, stopped early"
expect_rc 143
expect_err '^kinowatt: stopped before the run; no clip was written$'
expect_err_lines 1
rm trace
expect_nothing
ok "stopped before the run"

# The clip is a pipe that nobody reads: the signal comes while it is written. The report stands.
mkfifo pipe
exec 4<>pipe
head -c 65536 /dev/zero >&4 # full
ln -s pipe clip.y4m
generate -W 64 -H 64 -f 33 -s 1 -o clip.y4m --latents l.npy >"$out" 2>"$err"
until [[ -s l.npy ]]; do sleep 0.05; done
sleep 1
kill -TERM "$(cat pid)"
sleep 0.1
cat <&4 >/dev/null & # until it is stopped
reader=$!
rc=$(exit_code) last_command="generate, stopped while writing"
kill $reader
exec 4>&-
expect_rc 143
expect_err '^kinowatt: stopped (while writing the clip|in decode); no clip was written, the latents are in l.npy$'
rm -f ./*
ok "stopped while writing, with the latents written"

# The report is a pipe that is full: the signal comes when the clip is complete.
mkfifo pipe
exec 4<>pipe
head -c 65536 /dev/zero >&4
generate "${small[@]}" -o clip.y4m >&4 2>"$err"
until [[ -s clip.y4m ]]; do sleep 0.05; done
sleep 0.2
kill -TERM "$(cat pid)"
sleep 0.1
timeout 5 cat <&4 >"$out" &
reader=$!
rc=$(exit_code) last_command="generate, stopped after the clip"
wait $reader
exec 4>&-
sed -i 's/\x00//g' "$out"
expect_rc 0
expect_out '^Written +clip.y4m$'
expect test "$(wc -c <clip.y4m)" = 30811
rm -f ./*
ok "stopped when the clip is complete: done"

# SIGKILL: the whole clip or none, and no hidden file where the file system can make files without a name.
for after in 0.1 0.3 0.5 0.7 0.9 1.2 1.6; do
    run timeout --preserve-status -s KILL $after "$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o clip.y4m
    [[ -e clip.y4m ]] && expect test "$(wc -c <clip.y4m)" = 30811
    rm -f clip.y4m
    expect_nothing
done
echo old >clip.y4m
long 3 KILL --latents latents.npy
expect_rc 137
expect test "$(cat clip.y4m)" = old
rm clip.y4m
expect_nothing
ok "killed at several moments: nothing unfinished is left"
