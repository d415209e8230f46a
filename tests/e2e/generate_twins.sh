#!/bin/bash
# generate: the other families' own rules, each on its nano twin: frames and sizes that come out otherwise than
# asked for, and what the pipeline cannot do.
. "$(dirname "$0")/../e2e/lib.sh"

generate() # ARGUMENT...
{
    run "$KINOWATT" generate "$twin" "${size[@]}" -s 2 -p 'a cat' --meter none "$@"
    sed -i '/warning: other processes used/d' "$err" # so they do while other tests run
}

passes='2 passes' # a step, with guidance
# So many frames come out as the request says.
makes() # FRAMES-ASKED FRAMES REQUEST-PATTERN
{
    generate -f "$1" -o clip.y4m
    expect_rc 0
    expect_out "^Request +$3, 2 steps, guidance [0-9.]+ \($passes a step\)\$"
    expect test "$(grep -ao FRAME clip.y4m | wc -l)" = "$2"
    ok "$twin: $1 frames asked for make $2"
}

repeats() # FRAMES
{
    for clip in first again; do
        generate -f "$1" -o "$clip.y4m"
        expect_rc 0
    done
    expect cmp first.y4m again.y4m
    generate -f "$1" -o one_pass.y4m --guidance 1
    expect_rc 0
    expect_out 'guidance 1 \(1 pass a step\)'
    expect test "$(cmp -s first.y4m one_pass.y4m; echo $?)" = 1
    generate -f "$1" -o longer.y4m -p 'a cat on a board'
    expect_rc 0
    expect test "$(cmp -s first.y4m longer.y4m; echo $?)" = 1
    ok "$twin: one seed gives one clip; guidance and the prompt count"
}

refuses() # OPTIONS MESSAGE
{
    read -ra options <<<"$1"
    generate "${options[@]}" -o refused.y4m
    expect_rc 2
    expect_err "^kinowatt: .*$2"
    expect test ! -e refused.y4m
    ok "$twin: $1 is refused"
}

# frames in chunks
twin=cogvideox-nano size=(-W 64 -H 48)
makes 6 8 '64 x 48, 8 frames \(of 6 asked for\) at 8 fps .*'
makes 9 9 '64 x 48, 9 frames at 8 fps .*'
repeats 6
refuses '-W 72' 'width 72 is no multiple of 16; try 64 or 80'
refuses '-s 1001' 'num-inference-steps 1001 is more than the 1000'
refuses '--flow-shift 3' 'flow-shift has no meaning for this model'

# frames in sixes after the first
twin=mochi-nano size=(-W 64 -H 48)
makes 12 7 '64 x 48, 7 frames \(of 12 asked for\) at 30 fps .*'
makes 13 13 '64 x 48, 13 frames at 30 fps .*'
repeats 7
refuses '-W 72' 'width 72 is no multiple of 16; try 64 or 80'
refuses '-s 1' 'num-inference-steps 1 is too few'
refuses '-f 0' 'num-frames'

# two transformers, one step each
twin=wan2.2-t2v-nano size=(-W 32 -H 32)
makes 6 5 '32 x 32, 5 frames \(of 6 asked for\) at 16 fps .*'
generate -f 1 -o first.y4m
generate -f 1 -o same.y4m --guidance-scale-2 5
generate -f 1 -o other.y4m --guidance-scale-2 3
expect_rc 0
expect_out 'guidance 5, then 3 \(2 passes a step\)'
expect cmp first.y4m same.y4m
expect test "$(cmp -s first.y4m other.y4m; echo $?)" = 1
ok "$twin: the second transformer has a guidance of its own"
refuses '-W 40' 'width 40 is no multiple of 16; try 32 or 48'

# a timestep for each token, cells of 16 pixels
twin=wan2.2-ti2v-nano size=(-W 48 -H 32)
makes 6 5 '32 x 32 \(of 48 x 32 asked for\), 5 frames \(of 6 asked for\) at 24 fps .*'
refuses '-W 40' 'width 40 is no multiple of 16; try 32 or 48'
refuses '-H 16' 'height 16 is too small for this model; try 32'
refuses '--guidance-scale-2 3' 'guidance-scale-2 has no meaning for this model'

# three stages, each with a window of its own; one step is enough
twin=ltx-video-nano size=(-W 100 -H 64)
makes 10 9 '128 x 64 \(of 100 x 64 asked for\), 9 frames \(of 10 asked for\) at 24 fps .*'
repeats 1
refuses '-W 47' 'width 47 is too small'
generate -f 1 -s 1 -o clip.y4m --latents latents.npy
expect_rc 0
for stage in text_encode denoise upscale refine decode; do expect_out "^$stage "; done
expect grep -aq "(1, 16, 1, 2, 4)" latents.npy
ok "$twin: each stage is reported; the latents are the last stage's"

# two text encoders, guidance in one pass, frames in chunks of five latent ones, two of which are blended
twin=hunyuanvideo-nano size=(-W 64 -H 48) passes='1 pass'
makes 20 17 '64 x 48, 17 frames \(of 20 asked for\) at 24 fps .*'
repeats 5
refuses '-W 72' 'width 72 is no multiple of 16; try 64 or 80'
refuses '--weights .' 'reads a prompt as .* not supported yet; leave --weights out'
generate -f 1 -o clip.y4m -n 'a dog' -p "$(printf 'a cat %.0s' {1..20})"
expect_rc 0
expect_err 'the negative prompt is not read'
expect_err 'the prompt for the second text encoder has [0-9]+ tokens and the model reads 77'
expect_err "Llama's tokenizer is not supported yet: each byte of a prompt is a token"
ok "$twin: what it does not read is said"
