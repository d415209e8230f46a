#!/bin/bash
# A model folder of one's own through the command: edited numbers just work, broken files are refused with
# one line that names file and key and nothing on stdout. Exit code 1: something in it is broken; 2: it is not
# there, or not what this version can run.
. "$(dirname "$0")/../e2e/lib.sh"

fresh() # makes ./mine, a copy of the built-in model
{
    rm -rf mine
    cp -r "$root/data/models/wan2.1-t2v-1.3b" mine
}

# Runs the command and expects the exit code and one line that fits the expression.
refused() # RC REGEX COMMAND...
{
    local code=$1 regex=$2
    shift 2
    run timeout 10 "$KINOWATT" "$@"
    expect_rc "$code"
    expect_out_lines 0
    expect_err_lines 1
    expect_err "$regex"
}

# The same of every command that opens a model.
refused_everywhere() # REGEX
{
    refused 1 "$1" predict ./mine
    refused 1 "$1" predict ./mine --json
    refused 1 "$1" explain ./mine
    refused 1 "$1" models ./mine
}

fresh
run "$KINOWATT" predict ./mine --json
expect_rc 0
expect_out '"model": "\./mine"'
sed -i 's/"num_layers": 30/"num_layers": 20/; s/"ffn_dim": 8960/"ffn_dim": 4096/' mine/transformer/config.json
run "$KINOWATT" predict ./mine
expect_rc 0
expect_out '^Model +\./mine'
# width 1536: 20 blocks of 6d + 2 (4 (d^2 + d) + 2d) + 2d + 2 d f + f + d and the embeddings
run "$KINOWATT" models ./mine --json
expect_rc 0
expect_out '\b655648320\b'
rm mine/defaults.json
run "$KINOWATT" predict ./mine
expect_rc 0
ok "a folder with edited numbers just works"

for file in model_index.json transformer/config.json text_encoder/config.json vae/config.json \
    scheduler/scheduler_config.json; do
    fresh
    rm "mine/$file"
    refused_everywhere "cannot read .*mine/$file"
    : >"mine/$file"
    refused 1 "mine/$file is not valid JSON: line" predict ./mine
    head -c 60 "$root/data/models/wan2.1-t2v-1.3b/$file" >"mine/$file"
    refused 1 "mine/$file is not valid JSON: line" predict ./mine
    echo '[1, 2]' >"mine/$file"
    refused 1 "mine/$file does not hold a JSON object" predict ./mine
    head -c 4096 /dev/urandom >"mine/$file"
    refused 1 "mine/$file is not valid JSON: line" predict ./mine
    rm "mine/$file" && mkdir "mine/$file"
    refused 1 "mine/$file is not a regular file" predict ./mine
    rmdir "mine/$file" && mkfifo "mine/$file"
    refused 1 "mine/$file is not a regular file" predict ./mine
    rm "mine/$file" && ln -s "$(basename "$file")" "mine/$file"
    refused 1 "cannot read .*mine/$file: Too many levels" predict ./mine
done
ok "files that are missing, broken, folders, pipes, loops"

broken() # FILE SED REGEX
{
    fresh
    sed -i "$2" "mine/$1"
    refused 1 "mine/$1: .*$3" predict ./mine
}
broken transformer/config.json 's/"num_layers": 30/"num_layers": "30"/' '"num_layers" is a string'
broken transformer/config.json 's/"num_layers": 30/"num_layers": -30/' '"num_layers" is -30'
broken transformer/config.json 's/"num_layers": 30/"num_layers": 1e99/' '"num_layers" is 1e\+99'
broken transformer/config.json 's/"num_layers": 30/"num_layers": 99999999999999999999/' '"num_layers" is 1e\+20'
broken transformer/config.json '/"num_layers"/d' '"num_layers" is missing'
broken transformer/config.json 's/"text_dim": 4096/"text_dim": 4097/' '"text_dim" is 4097.*"d_model" is 4096'
broken vae/config.json 's/"z_dim": 16/"z_dim": 8/' 'latents_mean'
broken text_encoder/config.json 's/"d_model": 4096/"d_model": null/' '"d_model" is null'
broken scheduler/scheduler_config.json 's/"flow_shift": 3.0/"flow_shift": 0/' '"flow_shift" is 0'
broken defaults.json 's/"width": 832/"width": 833/' '833 is no multiple of 16'
fresh
sed -i 's/"num_layers": 30/"num_layers": 30, "num_layers": 31/' mine/transformer/config.json
refused 1 'mine/transformer/config.json is not valid JSON: line.*duplicate' predict ./mine
ok "values of the wrong type, negative, huge, missing, contradictory, twice"

fresh
sed -i 's/WanPipeline/StableDiffusionPipeline/' mine/model_index.json
refused 2 'pipeline "StableDiffusionPipeline" is not known' predict ./mine
mkdir empty
refused 1 'cannot read .*empty/model_index.json' predict ./empty
refused 2 'model_index.json is a file; a model is a folder' predict ./mine/model_index.json
refused 2 'there is no model folder ./nothing' predict ./nothing
if [[ $(id -u) != 0 ]]; then
    fresh
    chmod 0 mine/vae/config.json
    refused 1 'cannot read .*mine/vae/config.json: Permission denied' predict ./mine
fi
ok "folders that are no model of ours"

echo '{"schema": "kinowatt.hardware/1"' >card.json
refused 1 'card.json is not valid JSON' predict wan2.1-t2v-1.3b --hardware ./card.json
sed 's/"value": 700/"value": -700/' "$root/data/hardware/h100-sxm.json" >card.json
refused 1 'card.json: "value" is -700.*power_limit_w' predict wan2.1-t2v-1.3b --hardware ./card.json
sed 's/"fuse_qkv"/"fuse_qkw"/' "$root/data/stacks/kinowatt.json" >stack.json
refused 1 'stack.json: "rewrites" has "fuse_qkw"' predict wan2.1-t2v-1.3b --stack ./stack.json
refused 2 'cannot read ./none.json' predict wan2.1-t2v-1.3b --stack ./none.json
sed 's/"efficiency": 0/"efficiency": -0/' "$root/data/calibrations/diffusers-0.40@h200.json" >fit.json
refused 1 'fit.json: "rates\.[^"]*": "efficiency" is -0' predict wan2.1-t2v-1.3b --calibration ./fit.json
ok "hardware, stacks and calibrations of one's own"
