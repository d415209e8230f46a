#!/bin/bash
# calibrate --from and validate --from: rows of a file, of an export and of the store; then predict with them.
. "$(dirname "$0")/../e2e/lib.sh"

published=$root/data/published
export XDG_DATA_HOME=$base/data
mine=$XDG_DATA_HOME/kinowatt/calibrations
model=wan2.1-t2v-1.3b

# ---- A file of rows ----

run "$KINOWATT" validate --from "$published/delavande2025_wan_sweeps.csv"
expect_rc 0 # no figure was promised
expect_out '^105 rows of diffusers-0.34 on h100-sxm, from .*wan_sweeps.csv; 3 sessions'
expect_out '^priors: diffusers-0.34@h100-sxm of '
for split in in-sample group-out shape-out session-out; do
    expect_out "^$split +all +paper +105 +34 +5\.70"
    expect_out "^$split +all +kernel +105 +34 "
done
expect_out '^5-runs: fitted to 5 runs of 119\.6 s together'
expect_out '^5-runs +all +kernel +100 +30 '
expect_out 'between sessions +1280x720, 81 frames, 50 steps'
expect_err_lines 0
ok "the ladder on rows of a file, by split"

# the same rows as delavande2025 gives, session by session
run "$KINOWATT" validate --from delavande2025 --csv
grep '^axis-out,all,kernel,' "$out" | cut -d, -f4- >theirs
run "$KINOWATT" validate --from "$published/delavande2025_wan_sweeps.csv" --csv
grep '^session-out,all,kernel,' "$out" | cut -d, -f4- >ours
expect test -s ours
expect cmp ours theirs
ok "the general fit is that of the rows that ship"

run "$KINOWATT" calibrate --from "$published/delavande2025_wan_sweeps.csv" --train-runs 10 --train-seconds 120
expect_rc 0
expect_out '^  5-runs +latency [0-9.]+ \([0-9.]+\) on 100 rows +energy .* on 30 rows'
expect_out "^wrote $mine/diffusers-0.34@h100-sxm.json$"
expect grep -q '"count": 5,' "$mine/diffusers-0.34@h100-sxm.json"
run "$KINOWATT" predict $model -H 720 -W 1280
expect_rc 0
expect_out 'calibration diffusers-0.34@h100-sxm: 5 rows of arXiv 2509.19222'
run "$KINOWATT" predict wan2.1-t2v-14b -W 1920 -H 1088 -s 300 --batch-size 2
expect_err 'no row of the calibration is of wan2.1-t2v-14b'
expect_err 'tokens are outside the calibrated range'
expect_err '1920x1088 is outside the calibrated sizes'
expect_err '300 steps are outside'
expect_err 'a batch of 2 is outside'
ok "a few runs are fitted, and predict finds the file and knows its range"

# ---- The H200 data set ----

# Fitted to ten runs of two minutes at most, the other runs of WAN2.1-1.3B are within 3 % in the mean, 8 % at most.
measured=$root/data/measured/h200-diffusers/runs.json
run "$KINOWATT" validate --from "$measured" --model $model --train-runs 10 --train-seconds 120 --json
expect_rc 0
expect_json 'd["data"]["rows"] >= 46 and d["data"]["rows"] == d["data"]["with_stages"]'
expect_json 'len(d["data"]["few_runs"]) == 10 and d["data"]["few_seconds"] <= 120'
ten='[s for s in d["scores"] if s["split"] == "10-runs" and s["sweep"] is None and s["method"] == "kernel"][0]'
expect_json "$ten['latency']['rows'] >= 36 and $ten['energy']['rows'] >= 36"
expect_json "$ten['latency']['mean'] <= 0.03 and $ten['energy']['mean'] <= 0.03"
expect_json "$ten['latency']['largest'] <= 0.08 and $ten['energy']['largest'] <= 0.08"
# what each kernel costs is asked of the ladder too: FLOPs over one efficiency are far from it
flops=${ten/kernel/flops}
expect_json "$flops['latency']['mean'] > 0.1"
for why in 'warm-ups' 'random weights of another law' 'the decoder ran in bf16'; do
    expect_json "any('$why' in e['why'] for e in d['data']['left_out'])"
done
ok "ten runs of the H200 set predict the rest"

run "$KINOWATT" validate --from "$measured" --model $model --train-runs 2 --train-seconds 40 --json
expect_rc 0
two=${ten/10-runs/2-runs}
expect_json "$two['latency']['rows'] >= 40 and $two['latency']['mean'] <= 0.04 and $two['energy']['mean'] <= 0.04"
ok "two short ones do, 4 % in the mean"

# So do ten of the same points measured again, three times over, on two other cards.
run "$KINOWATT" validate --from "${measured%runs.json}repeats.json" --train-runs 10 --train-seconds 120 --json
expect_rc 0
expect_json 'd["data"]["rows"] == 74 and d["data"]["sessions"] == 2 and len(d["data"]["few_runs"]) == 10'
expect_json "d['data']['few_seconds'] <= 120 and $ten['latency']['rows'] == $ten['energy']['rows'] == 64"
expect_json "$ten['latency']['mean'] <= 0.03 and $ten['energy']['mean'] <= 0.03"
expect_json "$ten['latency']['largest'] <= 0.08 and $ten['energy']['largest'] <= 0.08"
ok "ten runs of two other cards predict their rest"

# What ships was fitted a week before to rows of other cards, and says these: what `predict` says, and as close.
as_is=${ten/10-runs/as-predicted}
expect_json "d['data']['predicted_by'] == 'diffusers-0.40@h200' and $as_is['latency']['rows'] == 74"
expect_json "$as_is['latency']['mean'] <= 0.03 and $as_is['energy']['mean'] <= 0.03"
expect_json "$as_is['latency']['largest'] <= 0.08 and $as_is['energy']['largest'] <= 0.08"
row='[r for r in d["rows"] if (r["width"], r["steps"], r["what"]) == (832, 12, "pipeline")][0]["kernel"]["as-predicted"]'
at() { python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print("%.6g %.6g" % eval(sys.argv[2]))' "$@"; }
of_row=$(at "$out" "($row['latency_s'], $row['gpu_energy_j'])")
"$KINOWATT" predict $model -W 832 -H 480 -f 81 -s 12 --hardware h200 --stack diffusers-0.40 --json >predicted.json
expect test "$of_row" = "$(at predicted.json '(d["total"]["latency_s"]["value"], d["total"]["energy_j"]["gpu"]["value"])')"
ok "what predict says of other cards is scored as it is"

# Of runs that a sweep kept, fits take the last windows of the stages, the way to the host with them.
run "$KINOWATT" validate --from "${measured%runs.json}sweep.json" --train-runs 3 --json
expect_rc 0
cp "$out" sweep.json
expect python3 - "${measured%runs.json}sweep.json" sweep.json <<'PYTHON'
import json, sys
runs, rows = (json.load(open(path)) for path in sys.argv[1:])
wanted = []
for run in runs["runs"]:
    last = {w["name"]: w for w in run["windows"] if w["parent"] == 0}
    parts = [last[name] for name in ("text_encode", "denoise", "decode", "output")]
    if run.get("repeat", 0) >= 0:
        wanted.append((sum(w["duration_s"] for w in parts), sum(w["energy_j"]["gpu"]["value"] for w in parts)))
got = [(r["latency_s"], r["gpu_energy_j"]) for r in rows["rows"] if r["what"] in (None, "pipeline")]
assert len(got) == len(wanted) == 11
for a, b in zip(sorted(got), sorted(wanted)):
    assert all(abs(x / y - 1) < 1e-5 for x, y in zip(a, b)), (a, b)
PYTHON
ok "a sweep's runs count by their stages"

# ---- Rows of a file pass the linter too ----

# 1200 W for 12 s, which the card does not hold; and half of a clip's time and energy
awk -F, -v OFS=, 'NR == 3 { $9 = 4 } NR == 4 { $8 /= 2; $9 /= 2 } NR <= 21 { print }' \
    "$published/delavande2025_wan_sweeps.csv" >wrong.csv
run "$KINOWATT" validate --from wrong.csv --stack diffusers-0.34
expect_rc 0
expect_out "^as-predicted: by what 'predict' has, diffusers-0.34@h100-sxm, fitted to 5 rows of arXiv 2509.19222"
expect_out '^18 rows of diffusers-0.34 on h100-sxm, from wrong.csv'
expect_out '^left out: 1 rows: the linter found power-above-limit$'
expect_out '^left out: 1 rows: the linter found shape-and-time$'
python3 - "$root/data/measured/h200-diffusers/runs.json" >unchecked.json <<'PYTHON'
import json, sys
runs = [r for r in json.load(open(sys.argv[1]))["runs"] if r["model"] == "wan2.1-t2v-1.3b" and r.get("repeat", 0) >= 0]
for run in runs[:12]:
    run.pop("findings", None)
whole = runs[3]["windows"][0]
whole["energy_j"]["gpu"] = dict.fromkeys(("value", "low", "high"), 1000 * whole["duration_s"]) | {"status": "measured"}
json.dump({"schema": "kinowatt.runs/1", "runs": runs[:12]}, sys.stdout)
PYTHON
run "$KINOWATT" validate --from unchecked.json --train-runs 3
expect_rc 0
expect_out '^left out: 1 rows: the linter found power-above-limit$'
ok "what the linter finds in a file is left out, and said"

# ---- Another pair, and none ----

sed 's/H100-SXM-80GB/B200/; 40,$d' "$published/delavande2025_wan_sweeps.csv" >b200.csv
run "$KINOWATT" calibrate --from b200.csv
expect_rc 2
expect_err 'b200.csv does not say which software ran; give --stack'
run "$KINOWATT" calibrate --from b200.csv --stack diffusers-0.34
expect_rc 0
expect_out '^38 rows of diffusers-0.34 on b200'
expect_out '^priors: diffusers-0.34@h100-sxm of .*, carried from other hardware'
expect_err 'warning: no calibration is there for diffusers-0.34 on b200 to start from'
run "$KINOWATT" predict $model --hardware b200 --json
expect_json 'd["calibration"] == "diffusers-0.34@b200" and not any("stands in" in w for w in d["warnings"])'
ok "priors are carried from the nearest calibration, and it is said"

run "$KINOWATT" calibrate --from "$published/delavande2025_wan_sweeps.csv" --stack diffusers-0.40
expect_rc 2
expect_err 'has no row to fit: not of the stack asked for'
expect_err_lines 1
run "$KINOWATT" validate --from "$published/delavande2025_wan_sweeps.csv" --stack nope
expect_rc 2
expect_err 'unknown stack "nope"'
run "$KINOWATT" validate --from "$root/data/measured/h200-diffusers/runs.json" --stack diffusers-0.34
expect_rc 2
expect_err 'has no row to fit: not of the stack asked for' # which is why most are, not why the first is
run "$KINOWATT" validate --from "$published/mlenergy_v3_one_gpu.csv"
expect_rc 2
expect_err 'does not say which software ran; give --stack'
grep -E '^(model|Wan-AI|zai-org/CogVideoX1.5)' "$published/mlenergy_v3_one_gpu.csv" >two.csv
run "$KINOWATT" validate --from two.csv --stack diffusers-0.34 --hardware h100-sxm
expect_rc 2
expect_err 'has 2 rows that can be fitted, and 3 are the least; left out: .*zai-org/CogVideoX1.5-5B'
sed '5,$d' b200.csv >few.csv
run "$KINOWATT" calibrate --from few.csv --stack diffusers-0.34 --train-runs 3 --train-seconds 1e9
expect_rc 2
expect_err 'leaves none to score'
{
    head -n 1 b200.csv
    for seconds in 95 96 97; do echo "a,$model,B200,832,480,81,50,$seconds,18,,"; done
} >alike.csv
run "$KINOWATT" calibrate --from alike.csv --stack diffusers-0.34
expect_rc 0
expect_err 'warning: all rows are of one shape'
run "$KINOWATT" calibrate --from missing.csv
expect_rc 2
expect_err 'cannot read missing.csv'
printf 'a,b\n1,2\n' >foreign.csv
run "$KINOWATT" calibrate --from foreign.csv
expect_rc 1
expect_err 'foreign.csv:1: the columns are of no data set that is known'
run "$KINOWATT" calibrate --from my-sweep
expect_rc 2
expect_err "no file and no data set 'my-sweep'"
run "$KINOWATT" calibrate --device cpu --train-runs 3
expect_rc 2
run "$KINOWATT" calibrate --from delavande2025 --stack diffusers-0.34
expect_rc 2
run "$KINOWATT" validate --from b200.csv --simulate 3
expect_rc 2
run "$KINOWATT" validate --model $model
expect_rc 2
ok "what cannot be fitted is refused in one line"

# ---- Runs of the store ----

export KINOWATT_STORE=$base/runs.db
for steps in 1 2 3 4; do
    run "$KINOWATT" generate wan2.1-t2v-nano -W 64 -H $((48 + 16 * (steps % 2))) -f 5 -s $steps -p 'a cat' -o clip.y4m
    expect_rc 0
done
run "$KINOWATT" calibrate --from store
expect_rc 2
expect_err "run 'kinowatt calibrate --device cpu' first"
# in its place: a GPU's rates, as if of this machine
stack=$("$KINOWATT" runs export | sed -n 's/.*"stack": *"\(kinowatt-cpu[^"]*\)".*/\1/p' | head -n 1)
machine='{"cpu": "any", "cores": 1, "threads": 1, "fp32_flop_per_s": 1e11, "bf16_flop_per_s": 1e11, "bytes_per_s": 1e10}'
sed "s/\"stack\": \"kinowatt\"/\"stack\": \"$stack\"/; s/\"hardware\": \"h200\"/\"hardware\": \"cpu\"/
    s/\"parameters\": {/\"machine\": $machine, &/" "$root/data/calibrations/kinowatt@h200.json" >"$mine/$stack@cpu.json"
run "$KINOWATT" calibrate --from store --stack "$stack" --model wan2.1-t2v-nano
expect_rc 0
expect_out "^4 rows of $stack on cpu, 4 by stages, from the store"
expect_out "^wrote $mine/$stack@cpu.json$"
run "$KINOWATT" predict wan2.1-t2v-nano --hardware cpu --stack "$stack" --json
expect_json 'any("4 rows of runs of the store" in a for a in d["assumptions"])'
for request in '' '--stack diffusers-0.34'; do # a GPU's is farther than another stack's
    run "$KINOWATT" predict wan2.1-t2v-nano --hardware cpu $request --json
    expect_json "d['calibration'] == '$stack@cpu'"
done
run "$KINOWATT" runs export -o runs.json
expect_rc 0
run "$KINOWATT" validate --from runs.json --json
expect_rc 0
expect_json 'd["data"]["rows"] == 4 and d["data"]["with_stages"] == 4 and d["data"]["left_out"] == []'
expect_json 'd["data"]["priors"].startswith("what was there before")'
expect_json 'len(d["rows"]) == 16 and {r["what"] for r in d["rows"]} == {None, "text_encode", "denoise", "decode"}'
ok "runs of the store and of an export are fitted by their stages"
