#!/bin/bash
# validate and calibrate, as a user runs them.
. "$(dirname "$0")/../e2e/lib.sh"

run "$KINOWATT" validate --dataset h200
expect_rc 0
expect_out 'forward 832x480x81 .*0\.60 s'
expect_out 'H200 unseen.*met'
expect_err_lines 0
ok "the H200 from micro-benchmarks alone"

run "$KINOWATT" validate --dataset delavande2025
[[ $rc == 0 || $rc == 4 ]] || problem "exit code $rc"
expect_out 'as-published +resolution +paper .* 14\.01 .* 11\.61 '
expect_out 'axis-out +steps +kernel '
expect_out 'between sessions +1280x720, 81 frames, 50 steps +3 '
expect_out 'wan2.1-t2v-14b .* kernel '
if grep -q 'missed' "$out"; then
    expect_rc 4
    expect_err 'warning: .* of the targets are missed'
else
    expect_rc 0
fi
ok "the ladder on the paper's rows; a missed target is exit code 4"

run "$KINOWATT" validate --dataset delavande2025 --csv -o scores.csv
expect test -s scores.csv
expect grep -q '^split,sweep,method,rows,rows_with_energy,latency_error_mean,' scores.csv
expect test "$(grep -c '^axis-out,' scores.csv)" = 16
ok "scores as CSV"

run "$KINOWATT" validate --dataset delavande2025 --simulate 2 --json
expect_out '"simulations": '
expect_out '"drawn": "as the fit assumes"'
expect_out '"split": "shape-out"'
expect_out '"power_log_sd": 0\.'
ok "simulated data sets"

run "$KINOWATT" validate --hardware h200 --json
expect_rc 0
expect_out '"schema": "kinowatt.validation/1"'
expect_out '"what": "vae_decode"'
ok "JSON"

run "$KINOWATT" validate --dataset nothing
expect_rc 2
expect_err "no file and no data set .nothing."
run "$KINOWATT" validate --hardware b200
expect_rc 2
run "$KINOWATT" validate --dataset delavande2025 --hardware h200
expect_rc 2
run "$KINOWATT" validate --dataset h200 --csv -o none.csv
expect_rc 2
expect test ! -e none.csv
run "$KINOWATT" validate --simulate 0
expect_rc 2
run "$KINOWATT" validate --priors missing.json
expect_rc 2
expect_err_lines 1
ok "what is not there is refused"

shipped="$root/data/calibrations/diffusers-0.34@h100-sxm.json"
date=$(sed -n 's/.*"date": "\(.*\)".*/\1/p' "$shipped" | head -n 1)
run "$KINOWATT" calibrate --from delavande2025 --priors "$root/data/calibrations/priors/diffusers-0.34@h100-sxm.json" \
    --date "$date" -o made.json
expect_rc 0
expect grep -q '"held_out"' made.json
expect_out '^  axis-out +latency [0-9.]+ \([0-9.]+\) on'
expect_out '^wrote made.json$'
expect_out '^use it: kinowatt predict MODEL --calibration made.json$'
run "$KINOWATT" predict wan2.1-t2v-1.3b --calibration ./made.json
expect_rc 0
ok "a calibration is made, and predicts"

# a copy of the data with a row of no sweep, and without one sweep
cp -r "$root/data" broken
sed -i '3s/^resolution,/,/' broken/published/delavande2025_wan_sweeps.csv
run "$KINOWATT" validate --dataset delavande2025 --data broken
expect_rc 1
expect_err 'delavande2025_wan_sweeps.csv:3: sweep is empty'
expect_err_lines 1
cp "$root/data/published/delavande2025_wan_sweeps.csv" broken/published/
sed -i '/^steps,/d' broken/published/delavande2025_wan_sweeps.csv
run "$KINOWATT" validate --dataset delavande2025 --data broken
expect_rc 4
expect_out 'paper, steps: latency .*missed: a figure is missing'
ok "a row without a sweep is refused, a sweep that is not there is a missed target"

# without energies a calibration has no power of the flops method and no host, and can be used all the same
cp "$root/data/published/delavande2025_wan_sweeps.csv" broken/published/
sed -i -E '2,$s/^(([^,]*,){8}).*/\1,,/' broken/published/delavande2025_wan_sweeps.csv
run "$KINOWATT" calibrate --from delavande2025 --data broken -o no_energy.json
expect_rc 0
expect grep -q '"flops": null' no_energy.json
expect grep -q '"host_energy": null' no_energy.json
run "$KINOWATT" predict wan2.1-t2v-1.3b --calibration ./no_energy.json
expect_rc 0
ok "what rows do not determine is null in the calibration"

run "$KINOWATT" calibrate
expect_rc 2
run "$KINOWATT" calibrate --from nothing
expect_rc 2
run "$KINOWATT" calibrate --from delavande2025 --date $'2026-11-2\xff'
expect_rc 2
expect_err 'is no date'
echo '{"schema": "kinowatt.calibration/1"' >broken.json
run "$KINOWATT" calibrate --from delavande2025 --priors broken.json -o half.json
expect_rc 1
expect_err 'broken.json is not valid JSON'
expect test ! -e half.json
ok "calibrate refuses what it cannot use"
