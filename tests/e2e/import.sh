#!/bin/bash
# import: each form, again, in part, and by several processes at once.
. "$(dirname "$0")/../e2e/lib.sh"
python=${PYTHON:-python3}

# The codes of the findings in findings.csv are these.
expect_findings()
{
    checked=1
    command -v "$python" >/dev/null || return 0
    "$python" -c 'import csv, sys
assert {r["code"] for r in csv.DictReader(open("findings.csv"))} == set(sys.argv[1:])' "$@" || problem "findings are not $*"
}

import() { run "$KINOWATT" import "$@"; }
export_to() # FILE STORE
{
    run "$KINOWATT" runs export --store "$2" -o "$1"
    expect_rc 0
}

# Two runs of ours with all that a run can have, from the figures of the tests' corpus.
ours=$root/tests/fuzz/corpus/fuzz_import/ours-lines

# ---- Ours ----

import "$ours" --store a.db
expect_rc 0
expect_out ': 2 runs imported$'
export_to a.json a.db
import a.json --store b.db
expect_rc 0
export_to b.json b.db
expect cmp a.json b.json
import a.json --store a.db
expect_rc 0
expect_out '^a.json: 0 runs imported, 2 there already$'
export_to again.json a.db
expect cmp a.json again.json
run "$KINOWATT" runs show 1 --store b.db
expect_out 'few-repeats: m; a'
ok "an export comes back byte for byte, once"

head -c $(($(wc -c <a.json) - 300)) a.json >short.json
import short.json --store c.db
expect_rc 1
expect_out '^short.json: 1 run imported, 1 not read$'
expect_err '^kinowatt: short.json:3: '
expect_err_lines 1
sed '2s/"anchor": 0/"anchor": "x"/' a.json >odd.json
import odd.json --store c.db
expect_rc 1
expect_err '^kinowatt: odd.json:2: "anchor" '
expect_out '^odd.json: 0 runs imported, 1 there already, 1 not read$|^odd.json: 1 run imported, 1 not read$'
sed '2s/"settings"/settings/' a.json >broken.json
import broken.json --store d.db
expect_rc 1
expect_err '^kinowatt: broken.json:2: not valid JSON'
expect_out '^broken.json: 1 run imported, 1 not read$'
ok "of a file that is broken or cut off, what is good"

mkfifo pipe
for file in pipe .; do
    run timeout 10 "$KINOWATT" import $file --store e.db
    expect_rc 1
    expect_err "^kinowatt: [$file]* is no regular file; name a file"
    expect_err_lines 1
done
head -c 100 /dev/zero >zeros
import zeros --store e.db
expect_rc 1
expect_err '^kinowatt: zeros:1: a NUL byte: this is no text file$'
ok "what is no file of text"

# The data set that comes with kinowatt: 145 runs, 116 of them no warm-ups, which add up as the clock and the counter say.
import "$root/data/measured/h200-diffusers/runs.json" --store h200.db
expect_rc 0
expect_out '^.*: 145 runs imported$'
run "$KINOWATT" runs --store h200.db --dataset h200-diffusers --model wan2.1-t2v-14b --limit 9 --csv
expect_rc 0
expect_out_lines 6
export_to h200.json h200.db
if command -v "$python" >/dev/null; then
    expect "$python" "$root/tests/support/check_measured.py" h200.json "$root/data/measured/h200-diffusers"
    expect "$python" "$root/bench/meter_figures.py" "$root/data/measured/h200-diffusers"
fi
# Only that it is short of repeats and has short stages is to be said of it; a run of it whose size is wrong is found.
run "$KINOWATT" runs --check --store h200.db --csv -o findings.csv
expect_rc 0
expect_findings short-window few-repeats
sed '/"run.window":"wan1.3b-832x480-81f-12s/!d; s/"width":832,"height":480/"width":1024,"height":576/; s/,$//' \
    "$root/data/measured/h200-diffusers/runs.json" >line
(echo '{"schema": "kinowatt.runs/1", "runs": ['; cat line; echo ']}') >mislabelled.json
import mislabelled.json --store mislabelled.db
expect_out ': 1 run imported$'
run "$KINOWATT" runs --check --store mislabelled.db
expect_out '^1 run checked, 1 of them with findings$'
expect_out '^Left out of fits$'
expect_out '^shape-and-time: 1 run$'
expect_out 's measured, .* s predicted '
run "$KINOWATT" runs --check --store mislabelled.db --json
expect_rc 2
run "$KINOWATT" runs export --store h200.db --format mlenergy
expect_json 'len(d["configurations"]) == 116'
expect_err '^kinowatt: warning: 29 runs are left out: 29 warm-ups; mlenergy has no place '
run "$KINOWATT" runs export 1 --store h200.db --format codecarbon # a warm-up that is named
expect_out_lines 2
# Of all that CodeCarbon's rows lose, which are repeats of each other is kept: by the experiment.
run "$KINOWATT" runs export --store h200.db --format codecarbon -o carbon.csv
import carbon.csv --store carbon.db
expect_rc 0
for store in h200.db carbon.db; do
    run "$KINOWATT" runs --check --store $store
    expect_out '^few-repeats: [0-9]+ runs$'
    grep '^few-repeats' "$out" >$store.few
done
expect cmp h200.db.few carbon.db.few
run "$KINOWATT" runs export --store carbon.db --format codecarbon
expect cmp <(sort "$out") <(sort carbon.csv)
ok "the H200 data set"

# Two more beside it, of other cards: three repeats of a point but for the two longest, and what a sweep kept.
import "$root/data/measured/h200-diffusers/repeats.json" --store more.db
expect_out ': 87 runs imported$'
expect_err "'kinowatt runs --check --store more.db' shows them$"
import "$root/data/measured/h200-diffusers/sweep.json" --store more.db
expect_out ': 14 runs imported$'
export_to more.json more.db
if command -v "$python" >/dev/null; then
    expect "$python" "$root/tests/support/check_measured.py" more.json "$root/data/measured/h200-diffusers"
    run "$python" "$root/bench/repeat_figures.py" "$root/data/measured/h200-diffusers"
    expect_rc 0
    expect_out '^of 28 points 25 have 3 runs or more in one session on one card$'
fi
run "$KINOWATT" runs --check --store more.db --csv -o findings.csv
expect_rc 0
expect_findings short-window few-repeats
expect [ "$(grep -c few-repeats findings.csv)" = 8 ]
ok "more of the same, on other cards"

# Clips that were computed from runs with fewer steps are no measurements, wherever they go.
import "$root/data/measured/h200-diffusers/h200_diffusers_full.csv" --store clips.db
expect_out ': 22 runs imported$'
run "$KINOWATT" runs --store clips.db --limit 99
expect_out 'wan2.1-t2v-1.3b +1280x720x81, 50 steps .* ~49\.0 Wh '
expect_out 'ltx-video-0.9.7-dev +896x640x121, 30 steps [^~]* 2\.48 Wh '
for rows in clips.db "$root/data/measured/h200-diffusers/h200_diffusers_full.csv"; do
    case $rows in *.db) from=(--from store --store "$rows") ;; *) from=(--from "$rows") ;; esac
    run "$KINOWATT" validate "${from[@]}" --hardware h200 --model wan2.1-t2v-1.3b
    expect_err 'has 2 rows that can be fitted, and 3 are the least'
done
for format in codecarbon mlenergy; do # CodeCarbon's lines: a header and a run each; ML.ENERGY's: 3 around the runs
    run "$KINOWATT" runs export --store clips.db --format $format
    expect_rc 0
    expect_out_lines $(($([[ $format == mlenergy ]] && echo 2 || echo 1) + 4))
    expect_err '^kinowatt: warning: 18 runs are left out: 18 computed from other runs, not measured; .* --all '
    expect_err_lines 1
    run "$KINOWATT" runs export --store clips.db --format $format --all
    expect_out_lines $(($([[ $format == mlenergy ]] && echo 2 || echo 1) + 22))
    expect_err_lines 0
done
"$KINOWATT" record --meter none --store failed.db -- false 2>"$err"
run "$KINOWATT" runs export --store failed.db --format codecarbon
expect_out_lines 1
expect_err '^kinowatt: warning: 1 run is left out: 1 failed or stopped; '
run "$KINOWATT" runs export --store mislabelled.db --format mlenergy
expect_json 'd["configurations"] == []'
expect_err ": 1 flagged by the linter, '!' in 'kinowatt runs'; "
ok "what was computed, failed or is flagged is not taken for measured"

# ---- Others' ----

cat >emissions.csv <<'CSV'
timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,gpu_energy,ram_energy,energy_consumed,country_name,country_iso_code,region,cloud_provider,cloud_region,os,python_version,codecarbon_version,cpu_count,cpu_model,gpu_count,gpu_model,longitude,latitude,ram_total_size,tracking_mode,on_cloud,pue
2025-05-30T14:49:15,clips,1b2c,e,36.0,0.01,0.0003,42.5,0.0,20.0,0.0004,0.007,0.0002,0.0076,France,FRA,,,,Linux,3.12.3,2.8.4,8,"AMD EPYC, 8 cores",1.0,1 x NVIDIA H100 80GB HBM3,,,64.0,machine,N,1.0
2025-05-30T15:00:00,clips,1b2d,e,10,0.01,0.0003,42.5,0.0,20.0,0.0001,,0.0002,0.0003,,,,,,,,,,,,,,,,,,
2025-05-30T16:00:00,clips,1b2e,e,-3,0.01,0.0003,42.5,0.0,20.0,0.0001,0.002,0.0002,0.0003,,,,,,,,,,,,,,,,,,
2025-05-30T17:00:00,clips,1b2f,e,3
CSV
import emissions.csv --store e.db
expect_rc 1
expect_out '^emissions.csv: 2 runs imported, 2 not read$'
expect_err '^kinowatt: emissions.csv:4: duration is "-3"'
expect_err '^kinowatt: emissions.csv:5: 5 fields instead of 32$'
expect_err '^kinowatt: warning: 2 findings in 2 runs; .kinowatt runs --check --store e.db. shows them$' # one run of each
expect_err_lines 3
import emissions.csv --store e.db
expect_out '^emissions.csv: 0 runs imported, 2 there already, 2 not read$'
# 0.007 kWh in 36 s are 700 W; the moment is the end's
run "$KINOWATT" runs --store e.db --csv
expect_out '^1,2025-05-30T14:48:39.000Z,import,,,h100-sxm,,36,25200,700,'
expect_out '^2,2025-05-30T14:59:50.000Z,import,,,,,10,,,360,42.5,720,20,done,[?]$'
run "$KINOWATT" runs show 1 --store e.db
expect_out '^Data set +emissions$'
expect_out '^total .* ~0.40 Wh '
expect_out '^  run.codecarbon.country_iso_code +FRA$'
run "$KINOWATT" runs show 2 --store e.db
expect_out '^GPU of total is absent: CodeCarbon measured nothing of it$'
run "$KINOWATT" runs export 1 2 --store e.db --format codecarbon --carbon-intensity 500
expect_out '^2025-05-30T14:49:15,clips,1b2c,e,36.0,0.0038,' # 0.0076 kWh
ok "CodeCarbon's emissions.csv: kWh, and 0 that means nothing"

# Two of one project, and each the only one of its own. The last drew 690 W and used no energy.
head -1 emissions.csv >projects.csv
while read -r project seconds kwh power; do
    echo "2025-05-30T14:49:15,$project,r,e,$seconds,,,,$power,,,$kwh,,,,,,,,,,,,,1,1 x NVIDIA H200,,,,,,"
done >>projects.csv <<'ROWS'
A 0.5 0.0000833 600
B 3600 0.6 600
C 60 0.01 600
C 61 0.0102 600
D 60 0 690
ROWS
import projects.csv --store projects.db
expect_rc 0
run "$KINOWATT" runs --check --store projects.db --csv
expect_out '^1,,,short-window,0,"gpu: 0.5 s '
expect test "$(grep -c '^[0-9]*,,,few-repeats,0,1 run of ' "$out")" = 3
expect test "$(grep -c '^[0-9]*,,,few-repeats,0,2 runs of ' "$out")" = 2
expect_out '^[0-9]+,,,zero-energy,1,gpu: no energy at all in 60 s,'
expect_out_lines 8
sed -i 's/,[A-D],r,e,/,codecarbon,r,5b0fa12a-3dd7-45bb-9766-cc326314d9f1,/' projects.csv # what CodeCarbon calls the nameless
import projects.csv --store nameless.db
run "$KINOWATT" runs --check --store nameless.db
expect_out '^few-repeats: 5 runs$'
expect_out '^  - name what ran, as by a project of its own'
run "$KINOWATT" runs compare 3 4 --store nameless.db
expect_out '^Nothing in their settings differs, but nothing says what ran'
run "$KINOWATT" runs compare 1 5 --store projects.db
expect_out '^codecarbon.project_name +[A-D] +[A-D]$'
ok "CodeCarbon's rows are repeats when their project and experiment say so"

# One row of CodeCarbon 3.3, all columns; and what we make of runs that others measured.
cat >full.csv <<'CSV'
timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,gpu_energy,ram_energy,energy_consumed,water_consumed,country_name,country_iso_code,region,cloud_provider,cloud_region,os,python_version,codecarbon_version,cpu_count,cpu_model,gpu_count,gpu_model,longitude,latitude,ram_total_size,tracking_mode,cpu_utilization_percent,gpu_utilization_percent,ram_utilization_percent,ram_used_gb,on_cloud,pue,wue
2026-09-07T12:24:28,clips,2ab8fba5,5b0fa12a-3dd7-45bb-9766-cc326314d9f1,90.00570463899999,0.0051,5.7e-05,29.31,184.68412374636605,20.0,0.0038037780288533,0.0131223574423219,0.0033876408256166,0.020313776296792,0.0,France,FRA,"Nice, Var",,,Linux,3.12.3,3.2.8,16,"AMD EPYC, 8 cores",2.0,2 x NVIDIA H200,8.4,49.0,62.6,machine,12.0,98.0,33.1,20.7,N,1.1,0.0
CSV
import full.csv --store full-row.db
run "$KINOWATT" runs export --store full-row.db --format codecarbon
expect cmp "$out" full.csv
ok "CodeCarbon's rows come out as they came in"

cat >ml.json <<'JSON'
{"architecture": "diffusion",
 "configurations": [
  {"avg_power_watts": 650, "batch_latency_s": 100.0, "batch_size": 2, "energy_per_video_joules": 32500.0, "fps": 16,
   "gpu_model": "H100", "inference_steps": 50, "num_frames": 81, "num_gpus": 1, "ulysses_degree": 1,
   "use_torch_compile": false, "video_height": 480, "video_width": 832},
  {"batch_latency_s": 1.0, "energy_per_image_joules": 3.0, "gpu_model": "H100"},
  {"batch_latency_s": -1, "energy_per_video_joules": 3.0, "gpu_model": "H100"}],
 "model_id": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "task": "text-to-video"}
JSON
import ml.json --store m.db --dataset leaderboard
expect_rc 1
expect_out '^ml.json: 1 run imported, 2 not read$'
expect_err '^kinowatt: ml.json:6: neither a run of ours nor '
expect_err '^kinowatt: ml.json:7: batch_latency_s must be '
run "$KINOWATT" runs --store m.db --csv --dataset leaderboard
expect_out '^1,.*,import,wan2.1-t2v-1.3b,"832x480x81, 50 steps, batch 2",h100-sxm,,100,65000,650,done,!$' # two of these take 190 s there
run "$KINOWATT" runs export --store m.db --format mlenergy
expect_err ': 1 flagged by the linter'
run "$KINOWATT" runs export --store m.db --format mlenergy --all
expect_err_lines 0
expect_out '"energy_per_video_joules": 32500, .*"gpu_model": "H100", .*"model_id": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", .*"use_torch_compile": false, '
cp "$out" m1.json
import m1.json --store m2.db
run "$KINOWATT" runs export --store m2.db --format mlenergy --all
expect cmp "$out" m1.json
ok "ML.ENERGY's JSON: two clips a batch"

for name in delavande2025_models delavande2025_wan_sweeps mlenergy_v3_one_gpu h200_diffusers040; do
    import "$root/data/published/$name.csv" --store p.db
    expect_rc 0
    expect_out ": $(($(wc -l <"$root/data/published/$name.csv") - 1)) runs imported$"
done
run "$KINOWATT" runs --store p.db --dataset delavande2025_models --model cogvideox-2b --csv
expect_out '^[0-9]+,.*,cogvideox-2b,"720x480x49, 50 steps",h100-sxm,diffusers-0.34,50.5688,29866.9'
export_to p.json p.db
import p.json --store q.db
export_to q.json q.db
expect cmp p.json q.json
ok "the published tables"

# Rows of 0 are kept and flagged; a last line that does not end may have lost digits.
sed '2s/,9.85711,/,0,/; 3s/,2.045,/,0,/; 4q' "$root/data/published/delavande2025_wan_sweeps.csv" >zeros.csv
import zeros.csv --store z.db
expect_rc 0
expect_out '^zeros.csv: 3 runs imported$'
run "$KINOWATT" runs --check --store z.db
expect_out '^energy-without-time: 1 run, 3 windows$' # one of each device
expect_out '^zero-energy: 1 run$'
head -c -4 zeros.csv >cut.csv
import cut.csv --store cut.db
expect_rc 1
expect_out '^cut.csv: 2 runs imported, 1 not read$'
expect_err '^kinowatt: cut.csv:4: the file ends within this line, .* end it with a line break$'
head -c -4 full.csv >cut.csv
import cut.csv --store cut.db
expect_rc 1
expect_err '^kinowatt: cut.csv:2: the file ends within this line'
ok "zeros and a file that is cut off within a line"

# ---- What is none of them ----

echo '{"a": 1}' >foreign.json
printf 'a,b\n1,2\n' >foreign.csv
: >empty
head -c 3000 /dev/urandom >noise
printf '[1, 2' >cut.json
for file in foreign.json foreign.csv empty noise cut.json; do
    import "$file" --store f.db
    expect_rc 1
    expect_err "^kinowatt: $file"
done
import nothing.json --store f.db
expect_rc 2
expect_err '^kinowatt: cannot read nothing.json: '
import . --store f.db
expect_rc 1
run "$KINOWATT" runs export --csv --store a.db -o table.csv
import table.csv --store f.db
expect_rc 1
expect_err 'export the runs without --csv'
import foreign.csv a.json --store f.db
expect_rc 1
expect_out '^a.json: 2 runs imported$'
run "$KINOWATT" runs --store f.db --csv
expect_out_lines 3
ok "foreign files are named, and the others imported"

# ---- Two at once, and one that is killed ----

for half in 1 2; do
    awk -v half=$half 'BEGIN {
        print "timestamp,duration,emissions,gpu_energy"
        for (i = 0; i < 3000; i++) printf "2026-01-0%dT%02d:%02d:%02d,%d,,0.00%d\n", half, i / 3600, i / 60 % 60, i % 60, i % 50 + 1, i + 1
    }' >half$half.csv
    "$KINOWATT" import half$half.csv --store two.db >log$half 2>&1 &
    pids[half]=$!
done
for half in 1 2; do
    wait "${pids[half]}" || problem "import $half failed: $(cat log$half)"
    expect grep -qx "half$half.csv: 3000 runs imported" log$half
done
run "$KINOWATT" runs export --store two.db --format codecarbon
expect_out_lines 6001
# its pages, which threads make, are in order: by time, then by number
expect sort -C <(tail -n +2 "$out" | cut -d, -f1)
for format in kinowatt codecarbon; do
    timeout 60 "$KINOWATT" runs export --store two.db --format $format 2>"$err" | head -c 100 >/dev/null
    rc=${PIPESTATUS[0]} last_command="export into a pipe that closes"
    expect_rc 1
    expect_err_lines 1
done
ok "two processes into one new database: no row lost, no error shown"

for wait in 0.05 0.1 0.2 0.4; do
    "$KINOWATT" import half1.csv --store killed.db >/dev/null 2>&1 &
    sleep $wait
    kill -KILL $! && wait $! 2>/dev/null
    [[ -e killed.db ]] || continue
    "$KINOWATT" runs export --store killed.db --csv >part.csv 2>"$err" ||
        grep -q 'no runs are kept yet' "$err" || problem "after $wait s: $(cat "$err")"
done
import half1.csv --store killed.db
expect_rc 0
expect_out '^half1.csv: [0-9]+ runs imported'
run "$KINOWATT" runs export --store killed.db --format codecarbon
expect_out_lines 3001
ok "killed at any moment: the next import completes it"

(
    ulimit -f 600
    trap '' XFSZ
    "$KINOWATT" import half1.csv --store full.db >"$out" 2>"$err"
)
rc=$? last_command="import with little room"
expect_rc 1
expect_err '^kinowatt: cannot write full.db: File too large; raise the limit'
import half1.csv --store full.db
expect_rc 0
run "$KINOWATT" runs export --store full.db --format codecarbon
expect_out_lines 3001
ok "a full disk: one clear line, and later all of it"
