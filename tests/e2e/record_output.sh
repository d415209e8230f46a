#!/bin/bash
# record --stage: output is looked at and passes unchanged, however much, whatever becomes of it.
. "$(dirname "$0")/../e2e/lib.sh"

export KINOWATT_STORE=$base/runs.db
record=("$KINOWATT" record --meter none)
have_python=$(command -v python3)

# "name name ...": the stages of run.json in their order.
expect_stages() # NAMES
{
    expect test "$(grep -o '"name": "[a-z]*", "parent": 0' run.json | cut -d'"' -f4 | xargs)" = "$1"
}

cat >lines.sh <<'EOF'
echo "Loading weights"
echo "step 1/3" >&2
printf 'a line without its end'
printf '\n 10%%|#  \r 20%%|## \rDecoding\r'
echo "step 2/3 and Loading"
printf 'Decoding at the end'
EOF
sh lines.sh >plain.out 2>plain.err
run "${record[@]}" -o run.json --stage load=Loading --stage 'step=^step [0-9]+/' --stage 'decode=^Decoding' --stage 'never=nothing like it' \
    -- sh lines.sh
expect_rc 0
expect cmp "$out" plain.out
expect cmp <(head -c "$(wc -c <plain.err)" "$err") plain.err
expect test "$(grep -o '"name": "load"' run.json | wc -l)" = 2 # the line that two fit is the first one's
expect test "$(grep -o '"name": "step"' run.json | wc -l)" = 1
expect test "$(grep -o '"name": "decode"' run.json | wc -l)" = 2
expect test "$(grep -o '"name": "never"' run.json | wc -l)" = 0
expect_err "^kinowatt: warning: --stage never: no line of output fits 'nothing like it', a POSIX extended regular expression$"
ok "lines begin stages, and pass unchanged; carriage returns end lines too"

run "${record[@]}" -o run.json --stage a=^alpha --stage b=^beta -- sh -c 'echo alpha; sleep 0.2; echo beta; sleep 0.1; echo alphabet; sleep 0.1'
expect_stages 'a b a'
expect_err '^  a +2 +0\.[3-9]'
ok "a stage ends where the next begins"

# blocks are cut anywhere: a line of many across their edges is found each time
awk 'BEGIN { for (i = 0; i < 3000; i++) { n = i * 37 % 911; printf "%s", sprintf("%*s", n, ""); print "x"
    if (i % 1000 == 499) print "and then"; if (i % 1000 == 999) print "here it is" } }' >text
run "${record[@]}" -o run.json --stage 'mark=^here it (is|was)$' --stage 'then=^and then$' -- cat text
expect cmp "$out" text
expect_stages 'then mark then mark then mark'
{ head -c 300000 /dev/zero | tr '\0' z; echo; echo here it is; head -c 5000 /dev/zero; printf '\nso it is'; } >text
run "${record[@]}" -o run.json --stage 'mark=^here it is$' --stage 'so=^so it is$' -- cat text
expect cmp "$out" text
expect_stages 'mark so'
ok "lines across blocks, long ones, zeros, a last one without its end"

seq 200000 >text
run timeout 60 "${record[@]}" -o run.json --stage any= --stage all=. -- cat text
expect_rc 2 # an empty expression
run timeout 60 "${record[@]}" -o run.json --stage all=. -- cat text
expect_rc 0
expect cmp "$out" text
expect_stages 'all'
expect test "$(grep -c 'more windows' "$err")" = 0
ok "lines of the stage that is there continue it, however many"

if [[ $have_python ]]; then
    cat >flood.py <<'PYTHON'
import os, resource, subprocess, sys, time
most = int(sys.argv[1])
start = time.monotonic()
p = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
total, zeros = 0, bytes(1 << 20)
while True:
    block = p.stdout.read(1 << 20)
    if not block: break
    assert block == zeros[:len(block)]
    total += len(block)
code = p.wait()
took = time.monotonic() - start
memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print("%.0f MB/s, %.0f MB" % (total / took / 1e6, memory))
sys.exit(code or total != most or memory > 150 or total / took < 50e6)
PYTHON
    run python3 flood.py 300000000 "${record[@]}" --stage a=denoise -- head -c 300000000 /dev/zero
    expect_rc 0
    ok "300 MB pass, in constant memory: $(cat "$out")"
fi

timeout 20 "${record[@]}" --stage a=y -- yes 2>"$err" | head -n 1 >"$out"
rc=${PIPESTATUS[0]}
last_command="yes | head"
expect_rc 141
expect_err 'killed by signal 13 '
expect test "$(grep warning "$err" | grep -vc 'no line of output fits')" = 0 # the first block may break off before it is looked at
if [[ -e /dev/full ]]; then
    timeout 20 "${record[@]}" --stage a=never -- yes >/dev/full 2>"$err"
    rc=$?
    expect_rc 141
    expect_err "warning: the command's output can't be passed on: No space left"
fi
ok "when no one reads, or the disk is full, the command's output is closed"

run "${record[@]}" --stage a=never -- sh -c 'exec >&- 2>&-; sleep 0.2; exit 4'
expect_rc 4
run timeout 20 "${record[@]}" --stage a=never -- sh -c 'yes & echo $! >child; echo done; exit 5'
expect_rc 5
expect_out '^done$'
kill "$(cat child)" 2>/dev/null
run timeout 20 "${record[@]}" --stage a=never -- sh -c 'sleep 30 & echo $! >child; echo done; exit 6'
expect_rc 6
expect_out '^done$'
kill "$(cat child)"
ok "a command that closes its output, children that keep it open or fill it"
