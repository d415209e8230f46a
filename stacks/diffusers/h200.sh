#!/bin/bash
# One session of the H200 data set, under record:
#
#     stacks/diffusers/h200.sh SESSION FOLDER [SECONDS]
#
# FOLDER gets plan-SESSION.jsonl and results-SESSION.jsonl, row by row; run again, it goes on where it was.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
session=$1 folder=$2 seconds=${3:-450}
python=${PYTHON:-python3} kinowatt=${KINOWATT:-build/kinowatt}
export PYTHONUNBUFFERED=1
"$kinowatt" record --help >/dev/null || {
    echo "h200.sh: $kinowatt does not run, and without it nothing is metered: run make, or set KINOWATT" >&2
    exit 3
}

"$python" stacks/diffusers/h200.py "$session" >"$folder/plan-$session.jsonl"
"$kinowatt" record -- "$python" stacks/diffusers/run.py --configs "$folder/plan-$session.jsonl" \
    --results "$folder/results-$session.jsonl" --budget "$seconds"
