#!/bin/bash
# runs: what generate keeps is listed, shown, compared, exported and deleted; stores that can't be used.
. "$(dirname "$0")/../e2e/lib.sh"

# Expects FILE to be JSON in which the Python expression over `d` is true.
expect_json() # FILE EXPRESSION
{
    checked=1
    command -v python3 >/dev/null || return 0
    python3 - "$1" "$2" >"$base/json" 2>&1 <<'PYTHON' || problem "JSON: $2: $(tail -n 1 "$base/json")"
import json, sys
def refuse(name): raise ValueError(name + " is not JSON")
d = json.load(open(sys.argv[1]), parse_constant=refuse)
assert eval(sys.argv[2]), "false"
PYTHON
}

# The same for a CSV: `rows` is a list of dictionaries.
expect_csv() # FILE EXPRESSION
{
    checked=1
    command -v python3 >/dev/null || return 0
    python3 - "$1" "$2" >"$base/csv" 2>&1 <<'PYTHON' || problem "CSV: $2: $(tail -n 1 "$base/csv")"
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1], newline="")))
assert all(None not in r and None not in r.values() for r in rows), "rows of unequal length"
assert eval(sys.argv[2]), "false"
PYTHON
}

# Five minutes of a GPU at 400 W and a package at 50 W.
trace=$base/trace.csv
awk 'BEGIN {
    print "kinowatt-trace,1\nchannel,gpu,GPU-0,0.1,0.1,,0.001,700\nchannel,cpu,package-0,0.1,,,0.0001,"
    for (i = 0; i <= 3000; i++) printf "sample,%.2f,0,%d,400,1980,2619,58,4\nsample,%.2f,1,%d,,,,,\n", i / 10, 40 * i, i / 10 + 0.05, 5 * i
}' >"$trace"
generate() # STEPS ARGUMENT...
{
    run "$KINOWATT" generate wan2.1-t2v-nano -W 64 -H 64 -f 5 -s "$1" -o clip.y4m "${@:2}"
}
runs() { run "$KINOWATT" runs "$@"; }
usual=$HOME/.local/share/kinowatt/runs.db

runs
expect_rc 0
expect_out '^No run fits'
runs --json
expect_json "$out" 'd == {"schema": "kinowatt.runs/1", "runs": []}'
runs show 1
expect_rc 2
expect_err "^kinowatt: no runs are kept yet: there is no $usual$"
expect_err_lines 1
expect test ! -e "$usual"
ok "before the first run"

generate 2 -p 'a "cat", surfs' --meter "replay:$trace"
expect_rc 0
expect_out '^Kept +run 1: kinowatt runs show 1$'
generate 3 -p 'a dog' --meter none --seed 7 --json
expect_rc 0
expect_json "$out" 'd["run"] == 2'
expect test -s "$usual"
runs
expect_rc 0
expect_out '^ +1  2[0-9-]+ [0-9:]{5}  generate  wan2.1-t2v-nano  64x64x5, 2 steps  cpu  .*400 W .* 50.0 W .*done'
expect_out '^ +2 .* 64x64x5, 3 steps .* –  .*done'
runs --csv --limit 1
expect_out_lines 2
expect_out '^2,2.*Z,generate,wan2.1-t2v-nano,'
runs --model other
expect_out '^No run fits'
ok "generate keeps its runs, runs lists them"

runs show 1
expect_rc 0
expect_out '^Weights +random:0:normal$'
expect_out '^  denoise '
expect_out '^RAM of total is absent: the trace has no ram$'
expect_out '^  prompt +a "cat", surfs$'
runs show 1 --json
expect_json "$out" 'd["runs"][0]["settings"]["prompt"] == "a \"cat\", surfs" and d["runs"][0]["settings"]["run.seed"] == "0"'
expect_json "$out" '[w["name"] for w in d["runs"][0]["windows"]] == ["total", "text_encode", "denoise", "decode"]'
expect_json "$out" 'all(abs(w["energy_j"]["gpu"]["value"] / w["duration_s"] - 400) < 1 and w["energy_j"]["ram"]["value"] is None
    and w["energy_j"]["ram"]["reason"] for w in d["runs"][0]["windows"])'
expect_json "$out" 'd["runs"][0]["num_inference_steps"] == 2 and d["runs"][0]["num_gpus"] is None'
ok "show has everything"

runs compare 1 2
expect_rc 0
expect_out '^num_inference_steps +2 +3$'
expect_out '^prompt +a "cat", surfs +a dog$'
expect test -z "$(grep run.seed "$out")"
expect_out 'two sessions'
runs compare 1 1 --json
expect_json "$out" 'd["same_session"] and not d["settings"] and all(w["duration_ratio"] == 1 and w["energy_ratio"]["gpu"] == 1
    and w["energy_differs"]["gpu"] is False and w["energy_differs"]["ram"] is None for w in d["windows"])'
ok "compare: ratios, and what is not the same"

# ---- Export ----

runs export -o all.json
expect_rc 0
expect_json all.json 'len(d["runs"]) == 2 and "id" not in d["runs"][0]'
runs export
expect cmp "$out" all.json
runs export 2 -o one.json
expect_json one.json 'len(d["runs"]) == 1 and d["runs"][0]["settings"]["prompt"] == "a dog"'
runs export --csv -o windows.csv
expect_csv windows.csv 'len(rows) == 8 and abs(float(rows[2]["gpu_power_w"]) - 400) < 1 and rows[4]["gpu_energy_j"] == ""'
expect_csv windows.csv '[r["window_name"] for r in rows] == 2 * ["total", "text_encode", "denoise", "decode"]'
runs export --format codecarbon -o emissions.csv
expect_rc 0
expect_csv emissions.csv 'list(rows[0])[:14] == "timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,gpu_energy,ram_energy,energy_consumed".split(",") and len(rows[0]) == 38'
expect_csv emissions.csv 'abs(float(rows[0]["gpu_energy"]) * 3.6e6 / float(rows[0]["duration"]) - 400) < 1'
expect_csv emissions.csv 'abs(float(rows[0]["energy_consumed"]) - float(rows[0]["gpu_energy"]) - float(rows[0]["cpu_energy"])) < 1e-12'
expect_csv emissions.csv 'rows[0]["ram_energy"] == rows[0]["emissions"] == rows[1]["energy_consumed"] == ""'
runs export 1 --format codecarbon --carbon-intensity 500 -o emissions.csv
expect_csv emissions.csv 'abs(float(rows[0]["emissions"]) / float(rows[0]["energy_consumed"]) - 0.5) < 1e-9'
runs export --format mlenergy -o ml.json
expect_rc 0
expect_json ml.json 'd["task"] == "text-to-video" and len(d["configurations"]) == 2'
expect_json ml.json '(lambda c: abs(c["energy_per_video_joules"] / c["batch_latency_s"] - 400) < 1 and c["inference_steps"] == 2
    and (c["video_height"], c["video_width"], c["num_frames"], c["batch_size"]) == (64, 64, 5, 1))(d["configurations"][0])'
expect_json ml.json 'd["configurations"][1]["energy_per_video_joules"] is None'
ok "export: everything, CodeCarbon's and ML.ENERGY's names"

refused() # RC REGEX ARGUMENT...
{
    local code=$1 words=$2
    shift 2
    runs "$@"
    expect_rc "$code"
    expect_err "^kinowatt: $words"
    expect_err_lines 1
    expect test ! -s "$out"
}
refused 2 "--format 'x' is not known" export --format x
refused 2 '--format mlenergy is JSON' export --format mlenergy --csv
refused 2 '--carbon-intensity is for' export --carbon-intensity 5
refused 2 '--all is for the other formats' export --all
refused 2 'name runs or say which' export 1 --limit 3
refused 2 "'x' is no run's number" show x
refused 2 "'0' is no run's number" delete 0
refused 2 'there is no run 9 in ' compare 1 9
refused 2 'name two runs' compare 1
refused 2 'there is no run 9 in ' export 9
refused 2 "runs knows no 'list'; show" list
refused 2 'no runs are kept yet: there is no none.db' --store none.db
expect test ! -e none.db
refused 2 'no runs are kept yet: there is no none.db' delete 1 --store none.db
refused 1 'cannot write /nonexistent/x' export -o /nonexistent/x
if [[ -w /dev/full ]]; then
    "$KINOWATT" runs export >/dev/full 2>"$err"
    rc=$? last_command="export to a full disk"
    expect_rc 1
    expect_err_lines 1
fi
ok "what is refused"

runs delete 1 9
expect_rc 2
runs delete 1
expect_rc 0
expect_out '^Deleted 1 run$'
runs show 1
expect_rc 2
generate 2 -p '' --meter none
expect_out '^Kept +run 3:'
ok "delete: all or none, and no number twice"

# ---- Stores that can't be used ----

head -c 5000 /dev/urandom >noise.db
cp noise.db before.db
for command in "" "export" "show 1"; do
    # shellcheck disable=SC2086
    refused 1 'noise.db is no database' $command --store noise.db
done
expect cmp noise.db before.db
generate 2 -p '' --store noise.db
expect_rc 1
expect_err '^kinowatt: noise.db is no database'
expect_err_lines 1
expect cmp noise.db before.db
rm -f clip.y4m
generate 2 -p '' --store /proc/x/runs.db
expect_rc 1
expect_err_lines 1
expect test ! -e clip.y4m
ok "a store that was named must be one, before anything runs"

mkdir -p "$base/full/kinowatt"
echo 'something else' >"$base/full/kinowatt/runs.db"
XDG_DATA_HOME=$base/full generate 2 -p '' -g 1
expect_rc 0
expect_err '^kinowatt: warning: the run was not kept: .*/full/kinowatt/runs.db is no database'
expect test -s clip.y4m
expect test -z "$(grep '^Kept' "$out")"
KINOWATT_STORE=here.db generate 2 -p ''
expect_out '^Kept +run 1:'
expect test -s here.db
ok "the usual store: a warning, and the clip is there"

# a user who may only read, also where the tests run as root
mkdir shelf
"$KINOWATT" record --meter none --store shelf/runs.db -- true 2>"$err"
chmod 444 shelf/runs.db && chmod 555 shelf && chmod 755 "$base"
reader=() && [[ $(id -u) == 0 ]] && reader=(setpriv --reuid 65534 --regid 65534 --clear-groups env "HOME=$base")
if "${reader[@]}" "$KINOWATT" --version >/dev/null 2>&1 && ! "${reader[@]}" test -w shelf; then
    run "${reader[@]}" "$KINOWATT" runs --store shelf/runs.db
    expect_rc 0
    expect_out '^ +1 +20.* record '
    run "${reader[@]}" "$KINOWATT" runs export --store shelf/runs.db
    expect_rc 0
    run "${reader[@]}" "$KINOWATT" runs delete 1 --store shelf/runs.db
    expect_rc 1
    expect_err '^kinowatt: cannot write shelf/runs.db: Permission denied'
    expect test "$(ls shelf)" = runs.db
    ok "a store that may only be read, in a folder that may only be read"
else
    skip "a store that may only be read" "no other user can be become"
fi
chmod 755 shelf
