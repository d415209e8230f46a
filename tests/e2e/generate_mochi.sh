#!/bin/bash
# generate: Mochi's own rules, on its nano twin: frames come in sixes after the first, and what its pipeline
# cannot do.
. "$(dirname "$0")/../e2e/lib.sh"

export OMP_WAIT_POLICY=passive # other tests run beside it
generate() # ARGUMENT...
{
    run "$KINOWATT" generate mochi-nano -W 64 -H 48 -s 2 -p 'a cat' --meter none "$@"
    sed -i '/warning: other processes used/d' "$err" # so they do while other tests run
}

generate -f 12 -o rounded.y4m
expect_rc 0
expect_out '^Request +64 x 48, 7 frames \(of 12 asked for\) at 30 fps .*, 2 steps, guidance 4.5 \(2 passes a step\)$'
expect test "$(grep -ao FRAME rounded.y4m | wc -l)" = 7
generate -f 13 -o exact.y4m
expect_rc 0
expect_out '^Request +64 x 48, 13 frames at 30 fps'
expect test "$(grep -ao FRAME exact.y4m | wc -l)" = 13
ok "each latent frame but the first makes six frames"

generate -f 7 -o again.y4m
expect_rc 0
expect cmp rounded.y4m again.y4m
generate -f 7 -o one_pass.y4m --guidance 1
expect_rc 0
expect_out 'guidance 1 \(1 pass a step\)'
expect test "$(cmp -s rounded.y4m one_pass.y4m; echo $?)" = 1
generate -f 7 -o longer.y4m -p 'a cat on a board'
expect_rc 0
expect test "$(cmp -s rounded.y4m longer.y4m; echo $?)" = 1
ok "one seed gives one clip; guidance and the prompt count"

for wrong in '-W 72|width 72 is no multiple of 16; try 64 or 80' '-s 1|num-inference-steps 1 is too few' \
    '-f 0|num-frames'; do
    read -ra options <<<"${wrong%%|*}"
    generate "${options[@]}" -o refused.y4m
    expect_rc 2
    expect_err "^kinowatt: .*${wrong#*|}"
    expect test ! -e refused.y4m
done
ok "what the pipeline cannot do is refused"
