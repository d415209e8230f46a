#!/bin/bash
# A sweep of 40 runs is killed with SIGKILL at 20 random moments: every run that was kept stays, once; none that
# was kept runs again; the plan completes.
. "$(dirname "$0")/../e2e/lib.sh"

export KINOWATT_STORE=$base/runs.db
seed=${SEED:-$RANDOM$RANDOM}
RANDOM=$seed

# The runs that are kept: "POINT REPEAT UUID".
kept() { "$KINOWATT" runs export --dataset killed 2>/dev/null |
    sed -n 's/^{"uuid": "\([^"]*\)".* "point": \([0-9]*\), "repeat": \([0-9]*\), "anchor": 0.*/\2 \3 \1/p' | sort; }

touch log lost twice
kills=0
for ((i = 0; i < 20; i++)); do
    "$KINOWATT" sweep --name killed --axis t=0:9:1 --repeats 4 --warmup 0 -- \
        sh -c 'sleep 0.06; echo "{name}" >>log' {t} >>told 2>&1 &
    sweep=$!
    sleep "0.$(printf %03d $((RANDOM % 300)))"
    kill -KILL "$sweep" 2>/dev/null && ((kills += 1))
    wait "$sweep" 2>/dev/null
    sleep 0.08 # the command that it has left
    kept >now
    [[ -e before ]] && comm -23 before now >>lost
    # what was kept at the kill before must not have run since
    if [[ -e names ]]; then tail -n "+$((lines + 1))" log | grep -xFf names >>twice; fi
    sed 's/^\([0-9]*\) \([0-9]*\) .*/killed-p\1-r\2/' now >names
    lines=$(wc -l <log)
    cp now before
done
expect test "$kills" -ge 15
expect test ! -s lost
expect test ! -s twice
[[ ${problems[*]} ]] && cat told
ok "20 kills (seed $seed): what was kept stays, and does not run again; $(wc -l <before) of 40 runs were kept by then"

run "$KINOWATT" sweep --resume killed
expect_rc 0
expect_out '^9 +4 '
kept >now
comm -23 before now >lost
tail -n "+$((lines + 1))" log | grep -xFf names >twice
expect test ! -s lost
expect test ! -s twice
expect test "$(wc -l <now)" -eq 40
expect test "$(cut -d' ' -f1,2 now | sort -u | wc -l)" -eq 40
expect test "$(cut -d' ' -f3 now | sort -u | wc -l)" -eq 40
ok "the plan completes: 40 runs, each once"
