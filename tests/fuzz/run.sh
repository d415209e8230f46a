#!/bin/bash
# Fuzzes each target for its share of the time, starting from tests/fuzz/corpus/<target>, with the words
# of tests/fuzz/<target>.dict if there is one. What is found on the way stays in BUILD/corpus, an input
# that fails in BUILD/crashes; move that one, with a telling name, to tests/fuzz/corpus with the fix, and
# `make check` repeats it for ever.
#
#     tests/fuzz/run.sh BUILD SECONDS TARGET...      from the repository; `make fuzz` does it
set -u
build=$1 seconds=$2
shift 2
(($#)) || { echo "no tests/fuzz/fuzz_*.c to run" >&2; exit 1; }
share=$((seconds / $#))
((share > 0)) || share=1
export ASAN_OPTIONS=${ASAN_OPTIONS-allocator_may_return_null=1}
export KINOWATT_DATA=$PWD/data
status=0
for target; do
    name=$(basename "$target")
    log=$build/$name.log
    mkdir -p "$build/corpus/$name" "$build/crashes"
    seeds=tests/fuzz/corpus/$name
    dictionary=tests/fuzz/$name.dict
    options=(-max_total_time=$share -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$build/crashes/$name-")
    [[ -f $dictionary ]] && options+=(-dict="$dictionary")
    if "$target" "${options[@]}" "$build/corpus/$name" $([[ -d $seeds ]] && echo "$seeds") >"$log" 2>&1; then
        echo "fuzz $name: $(grep -oE 'Done [0-9]+ runs in [0-9]+ second' "$log")s"
    else
        status=1
        echo "fuzz $name: FAILED"
        tail -n 60 "$log"
    fi
done
exit $status
