#!/bin/bash
# generate: stopped by signals, at any moment: what is said, and what is left.
. "$(dirname "$0")/../e2e/generate_lib.sh"

printf '%s\n' kinowatt-trace,1 channel,cpu,package-0,0.001,,262143.3,0.0001,100 sample,0,0,1,,,,, >"$base/trace"

# Hundredths of a second of CPU time that a process has used; many when it has ended.
spent() # PID
{
    awk '$3 != "Z" { print $14 + $15; found = 1 } END { if (!found) print 1000000000 }' "/proc/$1/stat" 2>/dev/null || echo 1000000000
}

# Waits until no thread of a process computes, which is not so for a moment while it waits for another thread's work.
until_asleep() # PID
{
    local seen
    for ((seen = 0; seen < 10; seen++)); do
        sleep 0.02
        cat /proc/"$1"/task/*/stat 2>/dev/null | grep -q ') [RD] ' && seen=-1
    done
}

# Stops a run that would take minutes when it has used HUNDREDTHS of a second since it read its meter's trace: how far it
# comes by then depends on the machine and on sanitizers. bash lets its background processes ignore SIGINT, and then
# kinowatt leaves it so.
long() # HUNDREDTHS SIGNAL ARGUMENT...
{
    local hundredths=$1 signal=$2 begun
    shift 2
    mkfifo "$base/meter"
    env --default-signal=INT "$KINOWATT" generate $model -W 256 -H 256 -f 81 -s 50 -p 'a cat' -o clip.y4m \
        --meter "replay:$base/meter" "$@" >"$out" 2>"$err" &
    cat "$base/trace" >"$base/meter"
    begun=$(spent $!)
    until (($(spent $!) >= begun + hundredths)); do sleep 0.02; done
    kill -"$signal" $!
    wait $! 2>/dev/null
    rc=$? last_command="generate, stopped by SIG$signal"
    rm "$base/meter"
    expect test ! -s "$out"
}

for signal in INT TERM HUP; do
    case $signal in
    INT) long 30 $signal; expect_rc 130 ;;
    TERM) long 60 $signal; expect_rc 143 ;;
    HUP) long 90 $signal; expect_rc 129 ;;
    esac
    expect_err '^kinowatt: stopped (before the run|in (text_encode|denoise, step [0-9]+ of 50)|while reading the weights); no clip was written$'
    expect_err_lines 1
    expect_nothing
done
ok "stopped by a signal: where, in one line, and nothing is left"

# Ctrl-C on a terminal, once its bar tells how long a step takes and what is left.
if command -v script >/dev/null; then
    mkfifo keys
    : >typescript
    env --default-signal=INT script -qefc "$KINOWATT generate $model -W 64 -H 64 -f 5 -s 2000 -p 'a cat' -o clip.y4m \
        --meter none" typescript <keys >/dev/null 2>&1 &
    exec 4>keys
    until tr '\r' '\n' <typescript | grep -q '^denoise .*/step .* left' || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
    printf '\003' >&4
    wait $!
    rc=$? last_command="generate, stopped by Ctrl-C"
    exec 4>&-
    tr '\r' '\n' <typescript >"$out"
    expect_rc 130
    expect_out '^denoise +\[#*\.+\] +[0-9]+ %  [0-9]+/2000  [0-9.]+ (us|ms|s)/step  [0-9].* left'
    erased=$'\x1b\\[K'
    expect_out "^${erased}kinowatt: stopped in denoise, step [0-9]+ of 2000; no clip was written$"
    rm keys typescript
    expect_nothing
    ok "Ctrl-C on a terminal: a bar with the seconds of a step and those left, and a line in its place"
else
    skip "Ctrl-C on a terminal" "no script(1)"
fi

# A second signal, later, ends it at once: the clip is a pipe that nobody reads, so that it would go on.
mkfifo pipe
exec 4<>pipe
head -c 65536 /dev/zero >&4
ln -s pipe clip.y4m
"$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o clip.y4m --latents l.npy >"$out" 2>"$err" &
until [[ -s l.npy ]]; do sleep 0.05; done
until_asleep $!
kill -TERM $!
sleep 2.2 # those within a second are the first one, sent to a group too
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
begin "$KINOWATT" generate $model -W 64 -H 64 -f 33 -s 1 -p 'a cat' -o clip.y4m --latents l.npy >"$out" 2>"$err"
until [[ -s l.npy ]]; do sleep 0.05; done
until_asleep "$pid"
kill -TERM "$pid"
sleep 0.1
cat <&4 >/dev/null & # until it is stopped
reader=$!
end
last_command="generate, stopped while writing"
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
begin "$KINOWATT" generate $model "${small[@]}" -p 'a cat' -o clip.y4m >&4 2>"$err"
until [[ -s clip.y4m ]]; do sleep 0.05; done
until_asleep "$pid"
kill -TERM "$pid"
sleep 0.1
cat <pipe 4>&- >"$out" &
reader=$!
end
last_command="generate, stopped after the clip"
exec 4>&- # the last that could write
wait $reader
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
long 60 KILL --latents latents.npy
expect_rc 137
expect test "$(cat clip.y4m)" = old
rm clip.y4m
expect_nothing
ok "killed at several moments: nothing unfinished is left"
