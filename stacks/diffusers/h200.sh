#!/bin/bash
# One session of the H200 data set, under record when there is a kinowatt:
#
#     stacks/diffusers/h200.sh SESSION FOLDER [SECONDS]
#
# FOLDER gets plan-SESSION.jsonl and results-SESSION.jsonl, row by row; run again, it goes on where it was.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
session=$1 folder=$2 seconds=${3:-450}
python=${PYTHON:-python3} kinowatt=${KINOWATT:-build/kinowatt}
export PYTHONUNBUFFERED=1

"$python" stacks/diffusers/h200.py "$session" >"$folder/plan-$session.jsonl"
meter=()
if "$kinowatt" record --help >/dev/null 2>&1; then meter=("$kinowatt" record --); fi
"${meter[@]}" "$python" stacks/diffusers/run.py --configs "$folder/plan-$session.jsonl" \
    --results "$folder/results-$session.jsonl" --budget "$seconds"
