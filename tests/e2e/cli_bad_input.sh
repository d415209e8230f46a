#!/bin/bash
# What is wrong with the command line: exit code 2, nothing on stdout, one line on stderr that says what.
. "$(dirname "$0")/../e2e/lib.sh"
model=wan2.1-t2v-1.3b

# Runs kinowatt with the arguments and expects one line that fits the expression.
refused() # RC REGEX ARGUMENTS...
{
    local code=$1 regex=$2
    shift 2
    run "$KINOWATT" "$@"
    expect_rc "$code"
    expect_out_lines 0
    expect_err_lines 1
    expect_err "^kinowatt: $regex"
}

refused 2 "unknown command 'predic', did you mean 'predict'\?" predic
refused 2 "unknown command 'xyzzy'; see 'kinowatt --help'" xyzzy
refused 2 "unknown option '--json'" --json
refused 2 "unknown command 'xyzzy'" help xyzzy
refused 2 "unexpected argument" help predict more
refused 2 "unknown command 'a\?b" $'a\nb'
ok "commands that are not there"

refused 2 'predict needs a model' predict
refused 2 'explain needs a model' explain
refused 2 "unexpected argument 'more'" predict "$model" more
refused 2 "unexpected argument 'b'" models a b
refused 2 "unexpected argument 'x'" doctor x
refused 2 'an argument is empty' predict ''
ok "arguments missing or too many"

refused 2 "unknown option '--widht', did you mean '--width'\? See 'kinowatt predict --help'" \
    predict "$model" --widht 832
refused 2 "unknown option '--xyzzyplugh'; see 'kinowatt predict --help'" predict "$model" --xyzzyplugh
refused 2 "unknown option '-z'" predict "$model" -z
refused 2 "unknown option '-z'" predict "$model" --json -zj
refused 2 "unknown option '--width'" models --width 832
refused 2 '--width needs a value' predict "$model" --width
refused 2 '-W needs a value' predict "$model" -W
refused 2 '--json takes no value' predict "$model" --json=yes
refused 2 '--hardware is empty' predict "$model" --hardware ''
refused 2 'give --json or --csv, not both' predict "$model" --json --csv
ok "options that are not there or lack their value"

refused 2 'unknown model "wan2.1-t2v-1.3"; did you mean "wan2.1-t2v-1.3b"' predict wan2.1-t2v-1.3
refused 2 'unknown model "xyzzy"' models xyzzy
refused 2 'unknown model "xyzzy"' compare "$model" xyzzy
refused 2 'unknown model' predict $'a\nb\033[31m'
refused 2 'there is no model folder \./nowhere' predict ./nowhere
refused 2 'unknown hardware "xyzzy"; known: a100.*, rtx-5090, cpu$' hardware xyzzy
refused 2 'unknown stack "xyzzy"; known: diffusers-0.34, .*, kinowatt-cpu-f32$' predict "$model" --stack xyzzy
refused 2 "runs knows no 'list'; show, compare" runs list
refused 2 'unknown hardware "h100-sx"; did you mean "h100-sxm"' predict "$model" --hardware h100-sx
refused 2 'unknown hardware "h20"; did you mean "h200"' hardware h20
refused 2 'unknown stack "diffuser-0.34"; did you mean "diffusers-0.34"' predict "$model" --stack diffuser-0.34
refused 2 'unknown stack "kinowat"; did you mean "kinowatt"' explain "$model" --against kinowat
refused 2 'unknown method "kernal".*kernel' predict "$model" --method kernal
refused 2 'unknown calibration "xyzzy"' predict "$model" --calibration xyzzy
refused 2 '.*no kinowatt data folder' models --data ./nowhere
ok "names that are not there: the nearest is offered"

refused 2 '.*1\.3B' predict wan2.1-t2v-14b --method paper
ok "the paper's form for another model"

for name in width height num-frames num-inference-steps batch-size prompt-tokens negative-tokens; do
    for value in 0 -1 abc 1e3 832.0 0x10 +16 ' 16' 16x nan inf '' 16,0; do
        refused 2 "--$name '${value/+/\\+}' is not valid; give a whole number of at least 1" predict "$model" "--$name" "$value"
    done
    refused 2 "--$name '99999999999999999999' is too large" predict "$model" --"$name"=99999999999999999999
    refused 2 "$name 9223372036854775807 is out of range; give 1 to" predict "$model" --"$name" 9223372036854775807
    ok "--$name takes whole numbers from 1"
done

for name in fps flow-shift power-limit; do
    for value in 0 -0 0.0 -1 nan inf abc 5x 0x5 '' ' 5' 1e 1-1; do
        refused 2 "--$name '${value/+/\\+}' is not valid; give a number greater than 0" predict "$model" --"$name" "$value"
    done
    refused 2 "--$name '1e999' is too large" predict "$model" --"$name" 1e999
    refused 2 "$name 1e\+300 is out of range" predict "$model" --"$name" 1e300
    ok "--$name takes numbers above 0"
done

for value in -1 -0.001 nan -inf abc 5x ''; do
    refused 2 "--guidance-scale '$value' is not valid; give a number of at least 0" predict "$model" -g "$value"
done
refused 2 'guidance-scale 1e\+300 is out of range' predict "$model" -g 1e300
run "$KINOWATT" predict "$model" -g 0
expect_rc 0
expect_out 'guidance 0 \(1 pass a step\)'
ok "--guidance-scale takes numbers from 0"

refused 2 'width 831 is no multiple of 16; try 816 or 832' predict "$model" -W 831
refused 2 'height 8 is no multiple of 16' predict "$model" -H 8
refused 2 'width 1000000000 is out of range; give 1 to' predict "$model" -W 1000000000
refused 2 'width 831 is no multiple' explain "$model" -W 831
refused 2 'width 831 is no multiple' compare -W 831
ok "sizes the pipeline refuses"

refused 2 'prompt-tokens 513 is out of range; give 1 to 512' predict "$model" --prompt-tokens 513
refused 2 'power-limit 1 W is too low to predict on h100-sxm; give [0-9]+ W or more' predict "$model" --power-limit 1
ok "values the model or the hardware refuses"

run "$KINOWATT" predict --num-frames=9 -s2 -- "$model"
expect_rc 0
expect_out '9 frames .*, 2 steps'
run env POSIXLY_CORRECT=1 "$KINOWATT" predict "$model" --num-frames 9 -s 2
expect_rc 0
expect_out '9 frames .*, 2 steps'
run "$KINOWATT" predict "$model" -f 9 -f 13
expect_out '13 frames'
refused 2 "unknown model \"-W\"" predict --json -- -W
ok "options and arguments in any order, -- ends the options, the last value holds"
