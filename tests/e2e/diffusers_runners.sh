#!/bin/bash
# stacks/diffusers: plans and time budget, and, where PyTorch and diffusers are, a run of tiny models.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
python=${PYTHON:-python3}
runners=$root/stacks/diffusers

if ! command -v "$python" >/dev/null; then
    skip "runners of diffusers" "no python3"
    exit
fi
run "$python" "$root/tests/support/check_runners.py"
expect_rc 0
ok "a plan runs what fits, keeps reserved time, survives a failure and goes on where it was"

if ! PYTHONPATH=$root/python:${PYTHONPATH-} "$python" -c 'import accelerate, diffusers, kinowatt, torch' 2>"$err"; then
    skip "pipelines on random weights" "no diffusers with PyTorch"
    exit
fi

tiny() # NAME FOLDER OPTIONS: a point of the plan, on a tiny model of that family
{
    [[ -d $1 ]] || "$python" "$root/tests/support/shrink_model.py" "$2" "$1"
    echo "{\"name\": \"$1\", \"model\": \"$1\", \"num_inference_steps\": 2, \"offload\": false, $3}" >>plan.jsonl
}
tiny wan "$root/data/models/wan2.1-t2v-1.3b" '"width": 64, "height": 64, "num_frames": 9'
tiny wan22 "$root/data/models/wan2.2-t2v-a14b" '"width": 64, "height": 64, "num_frames": 9'
tiny ti2v "$root/data/models/wan2.2-ti2v-5b" '"width": 80, "height": 64, "num_frames": 9'
tiny cogvideox "$root/data/models/cogvideox-5b" '"width": 96, "height": 64, "num_frames": 9'
tiny ltx "$root/data/models/ltx-video-0.9.7-dev" '"width": 192, "height": 100, "num_frames": 17'
tiny mochi "$root/data/models/mochi-1-preview" '"width": 64, "height": 64, "num_frames": 7'
tiny hunyuan "$root/data/models/hunyuanvideo" '"width": 64, "height": 64, "num_frames": 5'
tiny animatediff "$root/data/models/animatediff-lightning-4step" '"width": 64, "height": 64, "num_frames": 8'
sed -n '/"name": "wan"/{s/"name": "wan"/"name": "zeros", "weights": "random:0:zeros"/p;s/"random:0:zeros"/"random:0:uniform", "batch_size": 2/;s/zeros/batch/p}' \
    plan.jsonl >more.jsonl
cat more.jsonl >>plan.jsonl
run "$python" "$runners/run.py" --configs plan.jsonl --results results.jsonl
expect_rc 0
expect "$python" "$root/tests/support/check_pipelines.py" results.jsonl
ok "each family runs its stages on random weights: shapes, tokens, attention, finite latents, frames that vary"

run "$python" "$runners/run.py" --configs plan.jsonl --results results.jsonl
expect_rc 0
expect_out_lines 0
ok "a plan that is done is not run again"

run "$python" "$runners/run.py" nowhere
expect_rc 1
expect_err '^nowhere: no folder'
ok "a model that is not there"
