#!/bin/bash
# generate: meters that are there, that are not, and that stop during the run; a machine that others use.
. "$(dirname "$0")/../e2e/generate_lib.sh"

generate() # ARGUMENT...
{
    run "$KINOWATT" generate $model -p 'a cat' -o clip.y4m -g 1 "$@"
    sed -i '/no tokenizer/d' "$err"
}

# A trace of a CPU package at 40 W, read every 10 ms for GOOD of each GOOD + BAD ms, 5 minutes long.
trace() # GOOD BAD
{
    awk -v good="$1" -v bad="$2" 'BEGIN {
        print "kinowatt-trace,1\nchannel,cpu,package-0,0.001,,262143.3,0.0001,100"
        for (ms = 0; ms <= 300000; ms += 10)
            if (ms % (good + bad) < good) printf "sample,%.2f,0,%.3f,,,,,\n", ms / 1000, ms * 0.04
    }'
}

# ---- Figures ----

trace 100 0 >trace
generate "${small[@]}" --meter replay:trace
expect_rc 0
expect_out '^Stage +Time +CPU energy +CPU power'
expect_out '^ +CPU  [0-9.]+ .?Wh  \(.*, measured\)'
expect_out '^Energy +GPU  .*absent: '
# what a row shows is 40 W x its time
expect awk '
    BEGIN { unit["s"] = unit["Wh"] = 1; unit["ms"] = unit["mWh"] = 1e-3 }
    $1 ~ /^(text_encode|denoise|decode|total)$/ && ($3 in unit) && ($5 in unit) {
        rows++
        watts = 3600 * $4 * unit[$5] / ($2 * unit[$3])
        if (watts < 37 || watts > 43) bad = 1
    }
    END { exit bad || !rows }' "$out"
generate "${small[@]}" --meter none
expect_rc 0
expect_out 'GPU  .*absent: metering is off'
ok "a trace, and none"

begun=$(date +%s%N)
generate "${small[@]}" --meter replay:trace --idle 1 --store idle.db --json
ended=$(date +%s%N)
expect_rc 0
expect_json '39 < d["idle_power_w"]["cpu"]["value"] < 41 and d["idle_power_w"]["gpu"] is None'
# neither subtracted nor part of the run
expect_json 'd["total"]["power_w"]["cpu"]["low"] <= 40 <= d["total"]["power_w"]["cpu"]["high"]'
expect_json "d['total']['latency_s'] < ($ended - $begun) / 1e9 - 1"
run "$KINOWATT" runs show 1 --json --store idle.db
expect_json '[w["name"] for w in d["runs"][0]["windows"]] == ["total", "text_encode", "denoise", "decode"]'
expect_json 'all(39 < w["idle_power_w"]["cpu"]["value"] < 41 for w in d["runs"][0]["windows"])'
generate "${small[@]}" --meter replay:trace --idle 0.5
expect_rc 0
expect_out '^ +CPU  (39|40)\.[0-9] W when idle$'
generate "${small[@]}" --meter replay:trace --json
expect_json 'd["idle_power_w"] == {"gpu": None, "cpu": None, "ram": None}'
rm clip.y4m
generate "${small[@]}" --idle 0
expect_rc 2
generate "${small[@]}" --idle 3601
expect_rc 2
expect_err_lines 1
expect test ! -e clip.y4m
ok "--idle: a baseline beside the figures, kept with the run"

# ---- Not there ----

driver=$(dirname "$KINOWATT")/tests/support/fake_nvml.so
mkdir driver
ln -s "$(realpath "$driver")" driver/libnvidia-ml.so.1
unset CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER

absent() # NAME REGEX
{
    generate "${small[@]}" --meter "$1"
    expect_rc 3
    expect_err "^kinowatt: --meter $1 measures nothing here: $2"
    expect_err_lines 1
    expect test ! -s "$out" -a ! -e clip.y4m
    expect test ! -e clip.y4m
}

if [[ -e $driver ]]; then
    rm -f clip.y4m
    export LD_LIBRARY_PATH=$PWD/driver
    FAKE_NVML_INIT=9 absent nvml '.*Driver Not Loaded.*; .+'
    # all others take what there is
    FAKE_NVML_INIT=9 generate "${small[@]}"
    expect_rc 0
    expect_out 'GPU  .*absent: .*Driver Not Loaded'
    generate "${small[@]}" --meter nvml
    expect_rc 0
    unset LD_LIBRARY_PATH
    ok "nvml that was asked for and is not there: refused, with the remedy"
else
    skip "nvml that was asked for and is not there" "the stand-in is not built"
fi
rm -f clip.y4m
run "$KINOWATT" doctor
if grep -qE '^missing +rapl cpu' "$out" && ! grep -qE '^ok +rapl' "$out"; then
    reason=$(sed -nE '/^missing +rapl cpu/{s/^missing +rapl cpu +//;s/[][().*]/./g;p}' "$out")
    absent rapl "$reason; .+"
    ok "rapl that was asked for and is not there: what doctor says"
else
    skip "rapl that was asked for and is not there" "it is there"
fi

# ---- That stop ----

# Steps that take a second of one thread's CPU time, and so more than a second however fast the machine is and
# whatever else it does.
export OMP_NUM_THREADS=1
cpu_ms() # STEPS
{
    local TIMEFORMAT=%U
    { time "$KINOWATT" generate $model -p 'a cat' -o clip.y4m -g 1 -W 64 -H 64 -f 5 -s "$1" --meter none >"$out" 2>"$err"; } 2>&1 |
        tr -d .
}
base_ms=$(cpu_ms 2)
for ((steps = 8; steps < 1000; steps *= 2)); do
    ((10#$(cpu_ms $steps) - 10#$base_ms > 1000)) && break
done
long=(-W 64 -H 64 -f 5 -s $steps)

head -n 5 trace >short
generate "${long[@]}" --meter replay:short
expect_rc 0
expect_out '^ +CPU  .*absent: replay package-0 has given no reading since'
expect_err '^kinowatt: warning: the energy of the CPU was lost during the run: replay package-0 has given no reading'
expect_out '^Written +clip.y4m$'
generate "${long[@]}" --meter replay:short --json
expect_rc 0
expect_json 'd["total"]["energy_j"]["cpu"] is None and "no reading since" in d["total"]["absent"]["cpu"]'
expect_json 'any("of the CPU was lost" in w for w in d["warnings"])'
ok "a trace that ends: absent with the reason, and a warning"

trace 200 500 >gaps
generate "${long[@]}" --meter replay:gaps --json
expect_rc 0
expect_json 'd["total"]["energy_j"]["cpu"]["status"] == "measured" and d["total"]["gap_s"] > 0.25'
expect_json 'd["total"]["energy_j"]["cpu"]["low"] <= 40 * d["total"]["latency_s"] <= d["total"]["energy_j"]["cpu"]["high"]'
expect_json 'any("did not answer for" in w for w in d["warnings"])'
generate "${long[@]}" --meter replay:gaps
expect_rc 0
expect_out '^ +CPU  [0-9.]+ .?Wh  \(.*, measured\)'
expect_err '^kinowatt: warning: the meter did not answer for [0-9.]+ m?s of the run: the energy counts it'
ok "a trace with gaps: measured, with the gap"

if [[ -e $driver ]]; then
    export LD_LIBRARY_PATH=$PWD/driver
    FAKE_NVML_READS="300 100000000" generate "${long[@]}" --meter nvml
    expect_rc 0
    expect_out '^Energy +GPU  .*absent: .*GPU is lost'
    expect_err '^kinowatt: warning: the energy of the GPU was lost during the run: .*GPU is lost'
    FAKE_NVML_READS="300 400" generate "${long[@]}" --meter nvml --json
    expect_rc 0
    expect_json 'd["total"]["energy_j"]["gpu"]["status"] == "measured" and d["total"]["failed_reads"] > 0'
    expect_json 'any("did not answer for" in w for w in d["warnings"])'
    unset LD_LIBRARY_PATH
    ok "nvml whose reads begin to fail, for good and for a while"
else
    skip "nvml whose reads begin to fail, for good and for a while" "the stand-in is not built"
fi

# ---- Others at work ----

spinners=() cores=$(env -u OMP_NUM_THREADS nproc)
for ((i = 0; i < cores; i++)); do
    while :; do :; done &
    spinners+=($!)
done
generate "${long[@]}" --meter none
kill "${spinners[@]}"
wait "${spinners[@]}" 2>/dev/null
expect_rc 0
expect_err "^kinowatt: warning: other processes used [0-9.]+ of $cores cores during (denoise|decode): times and energies"
run "$KINOWATT" runs show "$(sed -n 's/^Kept *run \([0-9]*\):.*/\1/p' "$out")"
expect_rc 0
expect_out 'run.other_cores.denoise +[0-9.]+'
rm -rf ./*
ok "other processes at work: a warning, and kept with the run"
