#!/bin/bash
# calibrate --device cpu: the time it may take, what there was no time for, stopping, and which file it leaves.
# tests/run.sh: alone
. "$(dirname "$0")/../e2e/lib.sh"

calibrate() # ARGUMENT...
{
    run "$KINOWATT" calibrate --device cpu --stack kinowatt-cpu-f32 "$@"
}

usual=$HOME/.local/share/kinowatt/calibrations/kinowatt-cpu-f32@cpu.json

# In so short a time not everything is timed; on a busy machine perhaps nothing.
for seconds in 4 12; do
    TIMEFORMAT='%R %U %S'
    { time calibrate --seconds $seconds; } 2>time
    read -r real user system <time
    # What begins before the deadline is ended: up to 5 s of one core, and here it had less than half of one.
    if awk "BEGIN { exit !($user + $system < 0.5 * $real) }"; then
        skip "a deadline" "it had $user + $system s of the cores in $real s"
    else
        expect awk "BEGIN { exit !($real <= $seconds + 5) }"
    fi
    [[ $rc == 1 ]] && expect_err "^kinowatt: $seconds s are too few to time anything" || break
done
if [[ $rc == 1 ]]; then
    ok "a deadline that is too short"
    skip "the rest" "the machine is too busy to calibrate"
    exit
fi
expect_rc 0
expect_out "^wrote $usual$"
expect_err '^kinowatt: warning: there was no time for .*wan2.1-t2v-1.3b at 256x256x17; '
expect grep -q '"wan2.1-t2v-1.3b at 256x256x17"' "$usual"
if grep -qE '"rounds": [0-2],' "$usual"; then expect_err 'were timed once or twice only'; fi
ok "a deadline holds, and what there was no time for is said and written"

calibrate --seconds 3
expect test "$rc" -le 1
ok "an unfinished calibration gives way to another"

# As if nothing had been left out.
sed '/"left_out": \[/,/\]/c "left_out": [],' "$usual" >finished.json
cp finished.json "$usual"
calibrate --seconds 2
expect_rc 1
expect_err '^kinowatt: (there was no time for .*the finished calibration of [0-9-]* stays|2 s are too few)'
expect_err_lines 1
expect test ! -s "$out"
expect cmp finished.json "$usual"
ok "an unfinished calibration does not replace a finished one"

sed 's/"cpu": "[^"]*"/"cpu": "Another"/' finished.json >"$usual"
calibrate --seconds 4
if [[ $rc == 0 ]]; then
    expect grep -q '256x256x17' "$usual"
else
    expect_err 'too few'
fi
ok "that of another machine is replaced"

cp finished.json "$usual"
run timeout --foreground --preserve-status -s INT 2 "$KINOWATT" calibrate --device cpu --seconds 300
expect_rc 130
expect_err '^kinowatt: calibrating was stopped$'
expect_err_lines 1
expect cmp finished.json "$usual"
expect test "$(ls -A "${usual%/*}")" = "${usual##*/}"
ok "stopped, it leaves what was there"

# Another process on each core is said, with its load, in the warning and in the file.
burn=()
for ((i = 0; i < $(nproc); i++)); do
    while :; do :; done &
    burn+=($!)
done
calibrate --seconds 6 -o busy.json
kill "${burn[@]}"
wait "${burn[@]}" 2>/dev/null
if [[ $rc == 0 ]]; then
    expect_err "warning: other processes kept [0-9.]* of [0-9]* cores busy meanwhile.*calibrate again when nothing else"
    expect grep -qE '"other_cores": ([1-9]|0\.[3-9])' busy.json
    expect grep -qE '"rounds_log_sd": (null|[0-9])' busy.json
    ok "other processes at work are said, in the warning and in the file"
else
    skip "other processes at work are said" "the machine is too busy to calibrate"
fi

if command -v script >/dev/null; then
    run script -qec "$KINOWATT calibrate --device cpu --seconds 2 -o other.json" typescript
    expect grep -q 'calibrate    \[.*\] .* %  .* left' typescript
    ok "a bar on a terminal"
else
    skip "a bar on a terminal" "no script(1)"
fi
