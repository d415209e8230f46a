# For shell tests of `generate`; source it first, instead of lib.sh: a model and a request that take a moment.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

model=wan2.1-t2v-nano
small=(-W 64 -H 64 -f 5 -s 2)

generate() # ARGUMENT...
{
    run "$KINOWATT" generate "$model" "${small[@]}" "$@"
    sed -i '/warning: other processes used/d' "$err" # so they do while other tests run
}

# Says it in one line, with the exit code, and leaves nothing.
refused() # RC REGEX ARGUMENT...
{
    local code=$1 words=$2
    shift 2
    generate "$@"
    expect_rc "$code"
    expect_err "^kinowatt: $words"
    expect_err_lines 1
    expect test ! -s "$out"
}
