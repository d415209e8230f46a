#!/bin/bash
# Which of oneDNN's kernels run: a phase that takes over the weights' layout of the phase before must not end
# up with the reference implementation, whose plain loops take hundreds of times as long; nor may a gated
# product where there is no AVX-512.
. "$(dirname "$0")/../e2e/lib.sh"

# At this size the later frames' folded upsampling cannot read what the first frame's wanted.
for isa in ALL AVX2; do
    DNNL_MAX_CPU_ISA=$isa DNNL_VERBOSE=1 run "$KINOWATT" generate wan2.1-t2v-nano -W 112 -H 112 -f 5 -s 1 \
        -p 'a cat' -o clip.y4m --meter none --dtype f32
    expect_rc 0
    if ! grep -q 'exec,cpu,convolution' "$out"; then
        problems=()
        skip "no convolution by plain loops" "oneDNN does not say what it runs"
        exit
    fi
    expect test -z "$(grep -E 'exec,cpu,(convolution|matmul),ref' "$out")"
    ok "no convolution or matrix product by plain loops: $isa"
done
