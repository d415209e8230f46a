#!/bin/bash
# generate: AnimateDiff's own rules, on its nano twin, and CLIP's tokenizer from a folder.
. "$(dirname "$0")/../e2e/lib.sh"

generate() # MODEL ARGUMENT...
{
    run "$KINOWATT" generate "$1" -W 64 -H 40 -s 2 -f 3 --meter none "${@:2}"
    sed -i '/warning: other processes used/d' "$err" # so they do while other tests run
}

generate animatediff-nano -p 'a cat' -o clip.y4m
expect_rc 0
expect_out '^Request +64 x 40, 3 frames at 10 fps .*, 2 steps, guidance 1 \(1 pass a step\)$'
expect_out '^Tokens .*; prompt 6, padded to 77$'
expect test "$(grep -ao FRAME clip.y4m | wc -l)" = 3
generate animatediff-nano -p 'a cat' -o again.y4m
expect_rc 0
expect cmp clip.y4m again.y4m
generate animatediff-nano -p 'a cat' -g 7.5 -o guided.y4m
expect_rc 0
expect_out 'guidance 7.5 \(2 passes a step\)'
expect test "$(cmp -s clip.y4m guided.y4m; echo $?)" = 1
ok "any number of frames; rows that halve with a rest; one seed gives one clip; guidance counts"

# decoded 16 and 2 at a time
generate animatediff-nano -p 'a cat' -f 18 -o long.y4m
expect_rc 0
expect test "$(grep -ao FRAME long.y4m | wc -l)" = 18
ok "more frames than are decoded in one call"

cp -R "$root/data/models/animatediff-nano" mine
mkdir mine/tokenizer
cp "$root"/tests/data/tiny-clip/* mine/tokenizer
generate ./mine -p 'a cat' -o pieces.y4m
expect_rc 0
expect_err_lines 0
expect_out '^Engine .*, tokenizer bpe$'
expect test "$(cmp -s clip.y4m pieces.y4m; echo $?)" = 1
generate ./mine -p 'A  CAT ' -o lowered.y4m
expect_rc 0
expect cmp pieces.y4m lowered.y4m
rm mine/tokenizer/merges.txt
generate ./mine -p 'a cat' -o refused.y4m
expect_rc 1
expect_err 'merges.txt'
ok "a folder's vocab.json and merges.txt are its tokenizer"

for wrong in '-W 68|width 68 is no multiple of 8; try 64 or 72' '-f 33|num-frames 33 is more than the 32' \
    '-s 1001|num-inference-steps 1001 is more than the 1000' '--flow-shift 3|flow-shift has no meaning for this model'; do
    read -ra options <<<"${wrong%%|*}"
    generate animatediff-nano -p 'a cat' "${options[@]}" -o refused.y4m
    expect_rc 2
    expect_err "^kinowatt: ${wrong#*|}"
    expect test ! -e refused.y4m
done
ok "what the pipeline cannot do is refused"
