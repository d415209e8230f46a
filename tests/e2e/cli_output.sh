#!/bin/bash
# Where results go: whole or not at all. A full disk, a closed stdout, a closed pipe, files that cannot be
# written or read, and data that are broken.
. "$(dirname "$0")/../e2e/lib.sh"
model=wan2.1-t2v-1.3b

one_line() # RC REGEX
{
    expect_rc "$1"
    expect_err_lines 1
    expect_err "^kinowatt: $2"
}

for arguments in --help --version "models" "models --json" "hardware" "hardware h100-sxm --csv" "doctor" \
    "predict $model" "predict $model --json" "predict $model --csv" "explain $model" "compare --json" \
    "predict --help"; do
    # shellcheck disable=SC2086
    run sh -c 'exec "$KINOWATT" "$@" >&-' sh $arguments
    one_line 1 'cannot write the output: '
    if [[ -c /dev/full ]]; then
        # shellcheck disable=SC2086
        run sh -c 'exec "$KINOWATT" "$@" >/dev/full' sh $arguments
        one_line 1 'cannot write the output: No space left'
    fi
    ok "stdout closed or full: $arguments"
done

mkfifo pipe
exec 3<>pipe 4>pipe 3<&- # a writer that no one reads from
run sh -c 'exec "$KINOWATT" predict "$1" --json >&4' sh "$model"
exec 4>&-
one_line 1 'cannot write the output: Broken pipe'
ok "a closed pipe is a failure, not a signal"

run sh -c 'exec "$KINOWATT" predict nothing 2>&-'
expect_rc 2
run sh -c 'exec "$KINOWATT" models <&- 2>&-'
expect_rc 0
expect_out "$model"
ok "stdin and stderr may be closed"

run "$KINOWATT" predict "$model" --json -o result.json
expect_rc 0
expect_out_lines 0
expect grep -q kinowatt.prediction/1 result.json
run "$KINOWATT" predict "$model" --json
expect cmp "$out" result.json
expect test "$(ls)" = $'pipe\nresult.json'
ok "-o writes what stdout would get"

chmod 600 result.json
run "$KINOWATT" models --csv --output=result.json
expect_rc 0
expect test "$(head -c 6 result.json)" = model,
expect test "$(stat -c %a result.json)" = 600
ok "-o replaces a file and keeps its permissions"

mkdir folder
run "$KINOWATT" predict "$model" -o nowhere/x
one_line 1 'cannot write nowhere/x: '
run "$KINOWATT" predict "$model" -o folder
one_line 1 'cannot write folder: '
run "$KINOWATT" predict "$model" -o result.json/x
one_line 1 'cannot write result.json/x: '
# Before 45 s of timing, and before the fits.
for arguments in 'calibrate --device cpu' 'calibrate --from delavande2025' validate; do
    run timeout 30 "$KINOWATT" $arguments -o missing/file
    one_line 1 'cannot write missing/file: .*create the folder first'
done
ok "of what takes long, an output that cannot be written is found before it"

if [[ -c /dev/full ]]; then
    run "$KINOWATT" predict "$model" -o /dev/full
    one_line 1 'cannot write /dev/full: '
fi
expect test "$(head -c 6 result.json)" = model,
expect test "$(find . | sort | tr '\n' ' ')" = ". ./folder ./pipe ./result.json "
ok "-o to what cannot be written leaves nothing"

cp result.json kept.json
run sh -c 'ulimit -f 1; exec "$KINOWATT" predict "$1" --json -o result.json' sh "$model"
one_line 1 'cannot write result.json: File too large'
expect cmp result.json kept.json
expect test "$(find . -name '*.tmp' | wc -l)" = 0
ok "a write that fails half-way leaves the old file"

if [[ $(id -u) != 0 ]]; then
    chmod 500 folder
    run "$KINOWATT" predict "$model" -o folder/x
    one_line 1 'cannot write folder/x: Permission denied'
    ok "-o into a folder that is read-only"
else
    skip "-o into a folder that is read-only" "root may write everywhere"
fi

# ---- Broken data: exit code 1, and the file is named ----

cp -R "$root/data" data
wan=data/models/$model
broken() # FILE: what is now in it
{
    run "$KINOWATT" predict "$model" --data data
    one_line 1 ".*$1"
    expect_out_lines 0
    run "$KINOWATT" doctor --data data
    expect_rc 1
    expect_out "^broken .*$1"
    expect_err_lines 1
}
config=$wan/transformer/config.json
cp "$config" good
head -c 100 good >"$config"
broken transformer/config.json
: >"$config"
broken transformer/config.json
echo '[1, 2]' >"$config"
broken transformer/config.json
sed 's/"num_layers": *[0-9]*/"num_layers": -3/' good >"$config"
broken 'transformer/config.json.*num_layers'
sed 's/"num_layers": *[0-9]*/"num_layers": "thirty"/' good >"$config"
broken 'transformer/config.json.*num_layers'
cp good "$config"
run "$KINOWATT" doctor --data data
expect_rc 0
ok "a model's config that is truncated, empty, no object or has bad values"

cp data/stacks/diffusers-0.34.json good
head -c 50 good >data/stacks/diffusers-0.34.json
run "$KINOWATT" predict "$model" --data data
one_line 1 '.*stacks/diffusers-0.34.json'
cp good data/stacks/diffusers-0.34.json
cp data/hardware/h100-sxm.json good
head -c 50 good >data/hardware/h100-sxm.json
run "$KINOWATT" hardware --data data
one_line 1 '.*hardware/h100-sxm.json'
expect_out_lines 0
cp good data/hardware/h100-sxm.json
ok "a stack or a profile that is truncated"

cp -R "$wan" mine
rm mine/transformer/config.json
run "$KINOWATT" predict ./mine
one_line 1 '.*mine/transformer/config.json'
expect_out_lines 0
ok "a model folder without a config"

run "$KINOWATT" predict "$model" --hardware /dev/null
one_line 1 '.*/dev/null'
run "$KINOWATT" predict "$model" --hardware ./nowhere.json
one_line 2 '.*nowhere.json'
ok "a profile that cannot be read"
