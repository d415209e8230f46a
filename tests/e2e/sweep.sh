#!/bin/bash
# kinowatt sweep over commands and over the engine: what runs, what is kept, what is refused.
. "$(dirname "$0")/../e2e/lib.sh"

export KINOWATT_STORE=$base/runs.db

sweep() { run "$KINOWATT" sweep "$@"; }
# Field of each run of a sweep, in the order they ran: kept NAME point
kept() { "$KINOWATT" runs export --dataset "$1" | sed -n "s/.*\"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\}[,}].*/\1/p"; }

refused() # RC TEXT ARGUMENT...
{
    local rc=$1 text=$2
    shift 2
    sweep "$@"
    expect_rc "$rc"
    expect_err "^kinowatt: $text"
    expect_err_lines 1
    expect_out_lines 0
}

# ---- Commands ------------------------------------------------------------------------------------------

sweep --name small --axis t=1,2,3 --size 64x32 -- sh -c 'echo "$0" >>log' '{t} {width} {height} {size} {seed} {name}'
expect_rc 0
expect_out '^ *t +Runs +Time'
expect_out '^ *[123] +3 +[0-9.]+ ms'
expect_out '^Drift +the machine drifted by [0-9.]+ % \((slower|faster)\)'
expect_err '^anchor +t=1 +[0-9.]+ ms'
expect_err '^9/9 '
expect test "$(wc -l <log)" -eq 12 # 9, a warm-up, two anchors
expect test "$(sed -n 1p log)" = "1 64 32 64x32 0 small-p0-warmup-0"
expect test "$(sed -n 2p log)" = "1 64 32 64x32 0 small-anchor-0"
expect test "$(tail -n 1 log)" = "1 64 32 64x32 0 small-anchor-1"
sort -u log >names
expect test "$(wc -l <names)" -eq 12 # each has a name of its own
expect test "$(kept small state | sort | uniq -c | tr -s ' ')" = " 12 done"
expect test "$(kept small width | sort -u)" = 64
expect test "$(kept small session | sort -u | wc -l)" -eq 1
ok "every point as often as asked, between two anchors, each run kept"

# Blocks: three points once, again, again.
for block in 1 2 3; do
    expect test "$(sed -n "$((3 * block)),$((3 * block + 2))p" log | cut -d' ' -f1 | sort | tr -d '\n')" = 123
done
ok "a repeat of all points before the next repeat of any"

sweep --name small --axis t=1,2,3 --size 64x32 -- sh -c 'echo "$0" >>log' '{t} {width} {height} {size} {seed} {name}'
expect_rc 0
expect_out '^ *3 +3 '
expect test "$(wc -l <log)" -eq 12
sweep --resume small
expect_rc 0
expect_out '^ *3 +3 '
expect test "$(wc -l <log)" -eq 12
ok "the same line again, and --resume, find nothing left to do"

refused 2 'there is a sweep small that asks for something else' --name small --axis t=1,2 -- true '{t}'
mkdir other
cd other || exit
refused 2 'the sweep small was begun in ' --name small --axis t=1,2,3 --size 64x32 -- sh -c 'echo "$0" >>log' '{t} {width} {height} {size} {seed} {name}'
cd ..
refused 2 'there is no sweep nobody in ' --resume nobody
refused 2 '--resume goes on with the plan as it is kept' --resume small --repeats 4
refused 2 '--resume goes on with the plan as it is kept' --resume small --steps 4
refused 2 '--resume goes on with the plan as it is kept' --resume small -- true
ok "a name stands for one plan"

sweep --axis t=0,3,5 --repeats 4 --name fails -- sh -c 'echo "says {t}"; exit {t}'
expect_rc 1
expect_out '^0 +4 +0 '
expect_out '^3 +0 +2 +– '
expect_out '^5 +0 +2 +– '
expect_err 't=3 +failed: exit code 3'
expect_err '^kinowatt: 4 runs failed; what they printed is in .*/sweeps/fails/output.log$'
expect grep -qx 'says 5' "$base/sweeps/fails/output.log"
expect test "$(kept fails state | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = " 7 done; 4 failed;"
sweep --resume fails
expect_rc 1
ok "points that fail are recorded, twice at most, and the others go on"

refused 2 'nonesuch: there is no such command' --axis t=1,2 -- nonesuch '{t}'
ok "a command that is not there"

sweep --axis t=0.001 --until 1e-6 --max-repeats 5 --repeats 2 -- sleep '{t}'
expect_rc 0
expect_out '^point 0 +5 '
sweep --axis t=0.05 --until 700 --repeats 2 -- sleep '{t}'
expect_rc 0
expect_out '^point 0 +2 '
ok "--until stops at the interval, and at --max-repeats"

sweep --axis t=0.1 --repeats 60 --budget 2 --name short -- sleep '{t}'
expect_rc 0
expect_out '^Left out +[0-9]+ runs: [0-9]+ of point 0; go on with: kinowatt sweep --resume short$'
runs=$(sed -n 's/^point 0 *\([0-9]*\) .*/\1/p' "$out")
expect test "$runs" -ge 1 -a "$runs" -le 18
sweep --store other.db --axis t=1,2 --repeats 1 --budget 0.0001 --name elsewhere -- true '{t}'
expect_out '; go on with: kinowatt sweep --resume elsewhere --store other.db$'
ok "--budget begins nothing that would not end in time, and says what is left out"

sweep --size 832x480 --steps 4,20 wan2.1-t2v-1.3b --hardware h100-sxm --repeats 1 -- true '{steps}'
expect_rc 0
expect_out 'Predicted'
expect_out '^ *4 +1 +[0-9.]+ ms +– +[0-9.]+ s +\+[0-9.]+'
expect_err 'predicted [0-9.]+ s'
sweep --size 832x480 --steps 4,20 wan2.1-t2v-1.3b --hardware h100-sxm --repeats 1 --csv -- true '{steps}'
expect_rc 0
"$KINOWATT" predict wan2.1-t2v-1.3b -W 832 -H 480 -s 20 --hardware h100-sxm --csv >predicted
expect test "$(sed -n 's/^20,1,[^,]*,,\([0-9]*\.[0-9]\{3\}\).*/\1/p' "$out")" = "$(sed -n 's/.*,total,//p' predicted | cut -d, -f9 | cut -c1-6)"
ok "predicted beside measured is what predict says"

sweep wan2.1-t2v-nano --steps 2 --repeats 1 --warmup 0 --name marked -- \
    sh -c 'sleep 2; for s in text_encode denoise decode output; do "$KINOWATT" mark $s; sleep 0.2; done' '{steps}'
expect_rc 0
expect_out '^They are of text_encode, denoise, decode \(and output\) where a run has these windows'
expect_out '^point 0 +1 +(0\.[89].|1\.[0-9]+) s'
ok "of a model's command its stages count, not loading"

sweep --axis t=1,2 --json -- true '{t}'
expect_rc 0
expect_out '"schema": "kinowatt.sweep_report/1"'
expect_out '"complete": true'
ok "--json"

# A recorded trace as the meter: what a run drew lies between the lowest and the highest power in the trace, but for
# the rounding of what is printed.
trace=$root/tests/data/meter/gpu_and_cpu.csv
sweep --meter "replay:$trace" --axis t=0.2,0.4 --repeats 2 --csv -- sleep '{t}'
expect_rc 0
expect_out '^t,runs,latency_s,latency_half_interval,gpu_energy_j,gpu_energy_half_interval,cpu_energy_j,'
power=$(awk -F, '$1 == "sample" && $3 == 0 && $5 != "" {
    if (!n++ || $5 < low) low = $5
    if ($5 > high) high = $5
} END { print low, high }' "$trace")
expect test "$(awk -F, -v range="$power" 'BEGIN { split(range, p, " ") }
    NR > 1 && $5 / $3 >= p[1] * (1 - 1e-9) && $5 / $3 <= p[2] * (1 + 1e-9) { n++ } END { print n }' "$out")" = 2
ok "energies by device"

# ---- What is refused -------------------------------------------------------------------------------------

refused 2 'sweep needs a model' --steps 4
refused 2 'sweep needs a model'
refused 2 'there is no command behind --' --steps 4 --
refused 2 'the command has \{step\}, which is no axis, did you mean \{steps\}' --steps 4,5 -- true '{step}'
refused 2 'the command does not see steps; put \{steps\}' --steps 4,5 -- true
refused 2 "--num-frames: '17:81' is not valid; give whole numbers" -f 17:81 -- true '{num_frames}'
refused 2 '--axis' --axis T=1 -- true '{T}'
refused 2 '--max-repeats is for --until' --max-repeats 9 --steps 4 -- true '{steps}'
refused 2 "--launcher 'pbs' is not known" --launcher pbs --steps 4 -- true '{steps}'
refused 2 'size=64x63: height 63' wan2.1-t2v-nano --size 64x64,64x63
refused 2 'unknown model "wan2.1-t2v-nono"; did you mean' wan2.1-t2v-nono --steps 4
refused 3 'this kinowatt runs models on the CPU alone' wan2.1-t2v-nano --steps 4 --device cuda
refused 2 'our engine runs on this machine' wan2.1-t2v-nano --steps 4 --hardware h200
refused 1 "cannot (open|create|write) .*/proc/none" --steps 4 --store /proc/none/runs.db -- true '{steps}'
refused 2 "--meter 'none at all' is not known" --steps 4 --meter 'none at all' -- true '{steps}'
ok "what cannot work is refused before anything runs, in one line"

# ---- Interruptions --------------------------------------------------------------------------------------

touch alone
# (a shell without job control starts what is in the background with SIGINT ignored)
begin env --default-signal=INT "$KINOWATT" sweep --name alone --axis t=1 --repeats 5000 -- sleep 0.{t} >alone 2>&1
until grep -q '^1/5000' alone; do sleep 0.05; done
sweep --resume alone
expect_rc 1
expect_err "^kinowatt: process $pid is running the sweep alone; wait for it, or stop it first$"
expect_out_lines 0
ok "a second process is refused"

kill -INT "$pid"
end
expect_rc 130
expect grep -qE '^kinowatt: stopped; [0-9]+ of 5000 runs are kept\. Go on with: kinowatt sweep --resume alone$' alone
kept_runs=$(sed -n 's/^kinowatt: stopped; \([0-9]*\) .*/\1/p' alone)
expect test "$(kept alone repeat | grep -c '^[0-9]')" -eq "$kept_runs"
ok "Ctrl-C says how to go on"

begin env --default-signal=TERM "$KINOWATT" sweep --resume alone >alone 2>&1
until grep -qE '^[0-9]+/5000' alone; do sleep 0.05; done
kill -TERM "$pid"
end
expect_rc 143
ok "a scheduler's SIGTERM ends in its own exit code"

# Killed together with its command still running: the next sitting waits for that command's end.
begin "$KINOWATT" sweep --name orphan --axis t=1 --repeats 1 --warmup 0 -- sh -c 'echo begins >>orphans; sleep 0.{t}; sleep 0.5; echo ends >>orphans' \
    >/dev/null 2>&1
until [[ -s orphans ]]; do sleep 0.02; done
kill -KILL "$pid"
end
sweep --resume orphan
expect_rc 0
expect_err '^kinowatt: warning: waiting for a program that an earlier sitting has left running$'
expect test "$(tr '\n' ' ' <orphans)" = "begins ends begins ends begins ends begins ends "
ok "no run begins beside what a killed sitting left running"

# ---- The engine -------------------------------------------------------------------------------------------

sweep wan2.1-t2v-nano --size 64x64 -f 4,9 -s 1 -g 1 --repeats 2 --name engine
expect_rc 0
expect_err '^kinowatt: warning: the pipeline rounds the frames: 4 to 5$'
expect_out '^ *4 +2 +[0-9.]+ m?s'
expect_out '^ *9 +2 +[0-9.]+ m?s'
expect_out '^Predicted +–  \(there is no calibration of kinowatt-cpu'
expect test "$(kept engine num_frames | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = " 5 5; 3 9;"
expect test "$(kept engine model | sort -u)" = wan2.1-t2v-nano
"$KINOWATT" runs export --dataset engine >all
expect test "$(grep -c '"name": "denoise"' all)" -eq 8
ok "our engine: warm-ups as often as a pipeline is loaded, stages in each run"
