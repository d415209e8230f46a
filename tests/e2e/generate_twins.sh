#!/bin/bash
# generate: CogVideoX's own rules, on its nano twin: frames come in chunks, and what its pipeline cannot do.
. "$(dirname "$0")/../e2e/lib.sh"

export OMP_WAIT_POLICY=passive # other tests run beside it
generate() # ARGUMENT...
{
    run "$KINOWATT" generate cogvideox-nano -W 64 -H 48 -s 2 -p 'a cat' --meter none "$@"
    sed -i '/warning: other processes used/d' "$err" # so they do while other tests run
}

generate -f 6 -o even.y4m
expect_rc 0
expect_out '^Request +64 x 48, 8 frames \(of 6 asked for\) at 8 fps .*, 2 steps, guidance 6 \(2 passes a step\)$'
expect test "$(grep -ao FRAME even.y4m | wc -l)" = 8
generate -f 9 -o odd.y4m
expect_rc 0
expect_out '^Request +64 x 48, 9 frames at 8 fps'
expect test "$(grep -ao FRAME odd.y4m | wc -l)" = 9
ok "two latent frames make eight frames, three make nine"

generate -f 6 -o again.y4m
expect_rc 0
expect cmp even.y4m again.y4m
generate -f 6 -o one_pass.y4m --guidance 1
expect_rc 0
expect_out 'guidance 1 \(1 pass a step\)'
expect test "$(cmp -s even.y4m one_pass.y4m; echo $?)" = 1
ok "one seed gives one clip; guidance counts"

for wrong in '-W 72|width 72 is no multiple of 16; try 64 or 80' '-s 1001|num-inference-steps 1001 is more than the 1000' \
    '--flow-shift 3|flow-shift has no meaning for this model'; do
    read -ra options <<<"${wrong%%|*}"
    generate "${options[@]}" -o refused.y4m
    expect_rc 2
    expect_err "^kinowatt: ${wrong#*|}"
    expect test ! -e refused.y4m
done
ok "what the pipeline cannot do is refused"
