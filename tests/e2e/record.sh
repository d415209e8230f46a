#!/bin/bash
# record: the command runs as without it, whatever becomes of it; what is measured, kept and said.
. "$(dirname "$0")/../e2e/lib.sh"

export KINOWATT_STORE=$base/runs.db
record=("$KINOWATT" record --meter none)
have_python=$(command -v python3)

# Expects a Python expression over `r`, the run in run.json, to be true.
expect_run() # EXPRESSION
{
    checked=1
    [[ $have_python ]] || return 0
    python3 - "$1" >"$base/json" 2>&1 <<'PYTHON' || problem "run.json: $1: $(tail -n 1 "$base/json")"
import json, sys
def refuse(name): raise ValueError(name + " is not JSON")
d = json.load(open("run.json"), parse_constant=refuse)
assert d["schema"] == "kinowatt.runs/1" and len(d["runs"]) == 1
r = d["runs"][0]
w = {x["name"]: x for x in r["windows"]}
assert eval(sys.argv[1]), "false"
PYTHON
}

# Neither a socket nor its folder is left.
expect_clean()
{
    expect test -z "$(ls -d "$TMPDIR"/kinowatt-* 2>/dev/null)"
}

# ---- The command as it is ----

for code in 0 7 255; do
    run "${record[@]}" -- sh -c "exit $code"
    expect_rc $code
    expect_err "exit code $code\$"
done
run "${record[@]}" -- no-such-command
expect_rc 127
expect_err '^kinowatt: no-such-command: there is no such command'
expect_err_lines 1
run "${record[@]}" -- "$base"
expect_rc 126
printf 'echo a script without its first line\n' >script
chmod +x script
run "${record[@]}" -- ./script
expect_rc 126
expect_err 'first line names its interpreter'
"${record[@]}" -- sh -c 'kill -SEGV $$' >"$out" 2>"$err"
rc=$?
last_command=crash
expect_rc 139
expect_err 'killed by signal 11 '
run "${record[@]}" -- sh -c 'kill -KILL $$'
expect_rc 137
expect_clean
ok "exit codes: done, failed, not found, not executable, crashed, killed"

printf 'one\ntwo\0three' >in
"${record[@]}" -- cat <in >"$out" 2>"$err"
expect cmp in "$out"
"${record[@]}" -- sh -c 'cat >&2' <in >"$out" 2>"$err"
expect test ! -s "$out"
expect cmp <(head -c 13 "$err") in
run "${record[@]}" -- printf '%s\n' 'a b' '' -x --help
expect_out '^a b$'
expect_out '^-x$'
expect_out '^--help$'
expect_out_lines 4
run "${record[@]}" printf '%s' --json # the command ends our options, with or without --
expect_out '^--json$'
ok "input, output and arguments pass unchanged"

env -u KINOWATT_SOCKET -u NVTX_INJECTION64_PATH sh -c 'env; ls /proc/self/fd; ulimit -a; umask; trap' \
    3<in 7>/dev/null >plain
"${record[@]}" -- sh -c 'env -u KINOWATT_SOCKET -u NVTX_INJECTION64_PATH; ls /proc/self/fd; ulimit -a; umask; trap' \
    3<in 7>/dev/null >recorded 2>"$err"
expect diff <(grep -v '^_=' plain) <(grep -v '^_=' recorded)
run "${record[@]}" -- sh -c 'yes | head -n 1; kill -PIPE $$; sleep 1'
expect_rc 141 # SIGPIPE acts as usual
ok "environment, descriptors, limits and signals are what they were"

# ---- Signals to us ----

# Sends a signal to record while the command waits.
signalled() # SIGNAL COMMAND
{
    rm -f ready
    "${record[@]}" -- sh -c "$2" >"$out" 2>"$err" &
    local pid=$!
    for _ in {1..500}; do [[ -e ready ]] && break; sleep 0.02; done
    kill -"$1" $pid
    wait $pid
    rc=$?
    last_command="$1 to: $2"
}

for signal in TERM HUP USR1 INT QUIT; do
    # a shell's background command ignores SIGINT and SIGQUIT from birth, so Python's default is asked for
    if [[ $signal == INT || $signal == QUIT ]]; then
        [[ $have_python ]] || continue
        rm -f ready
        python3 - "$signal" "${record[@]}" >"$out" 2>"$err" <<'PYTHON'
import os, signal, subprocess, sys, time
name = "SIG" + sys.argv[1]
for s in ("SIGINT", "SIGQUIT"): signal.signal(getattr(signal, s), signal.SIG_DFL)
p = subprocess.Popen(sys.argv[2:] + ["--", "sh", "-c", "trap 'echo got; exit 9' %s; : >ready; while :; do sleep 0.05; done" % sys.argv[1]])
while not os.path.exists("ready"): time.sleep(0.02)
p.send_signal(getattr(signal, name))
sys.exit(p.wait())
PYTHON
        rc=$?
        last_command="$signal to a command with a trap"
    else
        signalled $signal "trap 'echo got; exit 9' $signal; : >ready; while :; do sleep 0.05; done"
    fi
    expect_rc 9
    expect_out '^got$'
    expect_out_lines 1 # once
done
signalled TERM ': >ready; exec sleep 20'
expect_rc 143
expect_err 'killed by signal 15 '
expect_clean
ok "signals are passed on, once; the socket is gone after"

if [[ $have_python ]]; then
    rm -f ready # nohup: what is ignored stays ignored
    cat >hup.py <<'PYTHON'
import os, signal, subprocess, sys, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
p = subprocess.Popen(sys.argv[1:] + ["--", "sh", "-c", ": >ready; sleep 0.3; echo survived"], restore_signals=False)
while not os.path.exists("ready"): time.sleep(0.02)
p.send_signal(signal.SIGHUP)
sys.exit(p.wait())
PYTHON
    run python3 hup.py "${record[@]}"
    expect_rc 0
    expect_out '^survived$'
    ok "a signal that is ignored stays so"
else
    skip "a signal that is ignored stays so" "no python3"
fi

# ---- Output that ends early, children that stay ----

run "${record[@]}" -- sh -c 'exec >&- 2>&-; sleep 0.2; exit 4'
expect_rc 4
run "${record[@]}" -- sh -c 'sleep 30 & echo $! >child; exit 0'
expect_rc 0
expect_err 'warning: 1 process that it started goes on, and is not in .*: '"$(cat child)"' \('
expect kill -0 "$(cat child)"
kill "$(cat child)"
run "${record[@]}" -- sh -c 'sh -c "sleep 0.3; : >late" & wait; test -e late'
expect_rc 0
expect test "$(grep -c warning "$err")" = 0
ok "a command that closes its output goes on; children are mentioned and live"

# ---- What can't work is said before the command starts ----

refused() # RC REGEX ARGUMENT...
{
    local code=$1 words=$2
    shift 2
    run "$KINOWATT" record "$@" -- touch started
    expect_rc "$code"
    expect_err "^kinowatt: $words"
    expect_err_lines 1
    expect test ! -e started
}

mkdir full
touch not-a-folder
refused 1 '.*full' --store full
refused 1 '.*not-a-folder' --store not-a-folder/runs.db
refused 1 '.*nowhere' -o nowhere/run.json
refused 2 '--stage .a. is not valid; give NAME=REGEX' --stage a
refused 2 "--stage a: '\\(' is no regular expression" --stage 'a=('
refused 2 '--set .b. is not valid' --set b
refused 2 '--meter .plug. is not known' --meter plug
refused 3 '--meter nvml measures nothing here' --meter nvml
refused 2 '.*no-trace' --meter replay:no-trace
run "$KINOWATT" record
expect_rc 2
expect_err 'record needs a command'
KINOWATT_STORE=full run "${record[@]}" -- sh -c 'exit 3' # one's own store is a convenience
expect_rc 3
expect_err 'warning: the run was not kept: '
ok "what can't work is said before the command starts"

# ---- What is measured ----

# 400 W and 50 W from the beginning of the trace on
trace=replay:$root/tests/data/meter/gpu_and_cpu.csv
run "$KINOWATT" record --meter "$trace" --idle 0.3 -o run.json --model wan2.1-t2v-1.3b -W 832 -H 480 -f 17 -s 4 -g 5 \
    --hardware h200 --stack diffusers-0.40 --weights random:0:normal --dataset test --set attention=math --set fps=16 \
    -- sh -c 'sleep 0.2; "$KINOWATT" mark a; sleep 0.4; "$KINOWATT" mark b; sleep 0.4'
expect_rc 0
expect_err '^total +[0-9.]+ s  '
expect_err '^  a +0\.[0-9]+ s  '
expect_err '^GPU +400 W when idle'
expect_err 'Kept as run [0-9]+'
expect_run 'r["kind"] == "record" and r["state"] == "done" and r["settings"]["run.exit_code"] == "0"'
expect_run '[x["name"] for x in r["windows"]] == ["total", "a", "b"] and [x["parent"] for x in r["windows"]] == [None, 0, 0]'
expect_run '0.39 < w["a"]["duration_s"] < 2 and w["total"]["duration_s"] > 1'
expect_run 'all(e["low"] <= p * x["duration_s"] <= e["high"] for x in r["windows"] for d, p in (("gpu", 400), ("cpu", 50)) for e in [x["energy_j"][d]])'
expect_run 'abs(w["b"]["energy_j"]["cpu"]["value"] / w["b"]["duration_s"] - 50) < 0.5'
expect_run 'w["a"]["energy_j"]["ram"] == {"value": None, "reason": "the trace has no ram"}'
expect_run '(r["model"], r["width"], r["height"], r["num_frames"], r["num_inference_steps"], r["guidance_scale"], r["fps"]) == ("wan2.1-t2v-1.3b", 832, 480, 17, 4, 5, 16)'
expect_run '(r["hardware"], r["stack"], r["weights"], r["dataset"], r["settings"]["attention"]) == ("h200", "diffusers-0.40", "random:0:normal", "test", "math")'
expect_run 'len(r["details"]) == 6 and r["channels"][0]["limit_w"] == 700'
run "$KINOWATT" import run.json --store other.db
expect_rc 0
run "$KINOWATT" runs --json --store other.db
expect grep -q '"fps": 16,' "$out"
if [[ -e /dev/full ]]; then
    run "${record[@]}" -o /dev/full -- true
    expect_rc 1
    expect_err '^kinowatt: cannot write /dev/full: No space left'
    run "${record[@]}" -o /dev/full -- sh -c 'exit 7'
    expect_rc 7 # the command's own goes before
    expect_err '^kinowatt: cannot write /dev/full: '
    ok "a record that can't be written is a failure"
fi
run "${record[@]}" -o run.json --set num_frames=17.5 --set width=many --set batch_size=2 -- true
expect_run 'r["num_frames"] is None and r["settings"]["num_frames"] == "17.5" and r["settings"]["width"] == "many" and r["batch_size"] == 2'
ok "seconds and energies of stages, labels, JSON that import reads"

rm -f "$base/runs.db"
for i in 1 2 3; do run "${record[@]}" -- sh -c "exit $i"; done
"${record[@]}" -- sleep 0.3 2>/dev/null &
"${record[@]}" -- sleep 0.3 2>/dev/null &
wait
run "$KINOWATT" runs --json
expect test "$(grep -c '"kind": "record"' "$out")" = 5
run "$KINOWATT" runs
expect_out 'sh -c exit 2 .*failed'
run "${record[@]}" -- no-such-command
run "$KINOWATT" runs --json
expect test "$(grep -c '"kind": "record"' "$out")" = 5
ok "each run is kept once, also of two at a time"

# ---- A driver ----

driver=$(dirname "$KINOWATT")/tests/support/fake_nvml.so
unset CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER
if [[ -e $driver ]]; then
    mkdir driver
    ln -s "$(realpath "$driver")" driver/libnvidia-ml.so.1
    nvml=(env LD_LIBRARY_PATH="$PWD/driver")
    run "${nvml[@]}" FAKE_NVML_GPUS=2 "$KINOWATT" record -o run.json -- sleep 1
    expect_rc 0
    expect_err '^GPU +NVIDIA Fake GPU-0000aaaa-0000, energy counter, 1755 MHz, 61 C at most'
    expect_err '^GPU +NVIDIA Fake GPU-1111aaaa-0000, '
    expect_run 'w["total"]["energy_j"]["gpu"]["low"] <= 700 * w["total"]["duration_s"] <= w["total"]["energy_j"]["gpu"]["high"]'
    expect_run 'r["hardware"] == "NVIDIA Fake" and r["num_gpus"] == 2'
    ok "two GPUs"

    run "${nvml[@]}" FAKE_NVML_GPUS=4 CUDA_VISIBLE_DEVICES=GPU-2222 "$KINOWATT" record -o run.json -- sleep 0.5
    expect_run '[c["label"] for c in r["channels"] if c["device"] == "gpu"] == ["GPU-2222aaaa-0000"] and r["num_gpus"] == 1'
    expect_run 'w["total"]["energy_j"]["gpu"]["low"] <= 200 * w["total"]["duration_s"] <= w["total"]["energy_j"]["gpu"]["high"]'
    run "${nvml[@]}" FAKE_NVML_MIG=1 "$KINOWATT" record -- true
    expect_rc 0
    expect_err '^GPU +– +\(absent: GPU-0000aaaa-0000 is split by MIG: '
    run "${nvml[@]}" FAKE_NVML_INIT=9 "$KINOWATT" record -- true
    expect_rc 0
    expect_err '^GPU +– +\(absent: .*Driver Not Loaded'
    ok "CUDA_VISIBLE_DEVICES by UUID, MIG, no driver"

    run "${nvml[@]}" FAKE_NVML_PID=$$ "$KINOWATT" record -o run.json -- sleep 0.5
    if [[ $(readlink /proc/self/ns/pid) == 'pid:[4026531836]' ]]; then
        expect_err '^GPU .*, shared with 1 other processes'
        expect_run 'r["details"][0]["other_processes"] == 1'
    else
        expect_err '^GPU .*, other processes not known'
        expect_run 'r["details"][0]["other_processes"] is None'
    fi
    ok "other processes on the card"

    # of one core, with the child's none: what reads of 2 ms cost beyond reads that cost nothing
    if [[ $have_python ]]; then
        cat >share.py <<'PYTHON'
import os, resource, subprocess, sys
def seconds(burn_us):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.argv[1], "record", "--", "sleep", "5"], stderr=subprocess.DEVNULL, check=True,
                   env=dict(os.environ, FAKE_NVML_BURN_US=str(burn_us)))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
dear, free = seconds(2000), seconds(0)
print("%.1f %% of a core, %.1f %% when reads are free" % (20 * dear, 20 * free))
sys.exit(not 0 < dear - free <= 0.03 * 5)
PYTHON
        run "${nvml[@]}" python3 share.py "$KINOWATT"
        expect_rc 0 # 2 %, and the first reads, before their price is known
        ok "dear reads are fewer"
    fi
else
    skip "GPUs" "the stand-in for a driver is not built"
fi
