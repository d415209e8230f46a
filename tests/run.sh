#!/bin/bash
# Runs test programs and scripts, several at once, each in its own log below $BUILD/tests, and ends
# with the line `N passed, M failed`. `make check` calls it with paths relative to the repository.
#
#     tests/run.sh TEST...     TEST: a program, or a .sh that sources tests/e2e/lib.sh; those that take long first
#
# A script with the line `# tests/run.sh: alone` times something: it runs after the others, by itself.
#
# A test prints TAP: `ok 1 - name`, `not ok - name`, an optional plan `1..N`. Failures beyond those it
# prints: it ended with an error or a signal that no `not ok` explains, it ran out of time, it printed
# fewer lines than planned, or none. Environment: BUILD, TESTS (run only tests whose path holds one of
# these words), TEST_TIMEOUT in seconds.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C BUILD=${BUILD:-build} TEST_TIMEOUT=${TEST_TIMEOUT:-400}
export KINOWATT=$PWD/$BUILD/kinowatt
export KINOWATT_STAGE=$PWD/$BUILD/stage
export XDG_DATA_HOME=$PWD/$BUILD/tests/home # no calibration of the user's
export KINOWATT_DATA=$PWD/data # unit tests are no neighbours of data/; lib.sh unsets it for the command
export CMOCKA_MESSAGE_OUTPUT=TAP
# Threads that wait for others' work do not spin: other tests need the core, and the work is theirs too.
export OMP_WAIT_POLICY=passive
# A sanitizer's finding ends in SIGABRT, which no test takes for one of the command's own exit codes.
export ASAN_OPTIONS=${ASAN_OPTIONS-abort_on_error=1:allocator_may_return_null=1:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS-print_stacktrace=1:abort_on_error=1}
# A test that calls make must not talk to this one.
unset MAKEFLAGS MFLAGS MAKELEVEL

log_of() # TEST
{
    local name=${1#"$BUILD"/}
    echo "$BUILD/tests/${name#tests/}.log"
}

# Runs one test and writes LOG (what it printed) and LOG.count (passed, failed, skipped).
run_one() # TEST
{
    local test=$1 log rc start=$SECONDS
    local -a command=("$test")
    log=$(log_of "$test")
    mkdir -p "$(dirname "$log")"
    [[ $test == *.sh ]] && command=(bash "$test")
    # the braces swallow bash's own "Aborted" line
    { timeout -k 5 "$TEST_TIMEOUT" "${command[@]}" >"$log" 2>"$log.err" </dev/null; } 2>/dev/null
    rc=$?
    local passed failed skipped planned extra=
    # cmocka writes a skipped test as `not ok 3 # SKIP name`
    skipped=$(grep -cE '^(not )?ok\b.*# SKIP' "$log")
    passed=$(grep -E '^ok\b' "$log" | grep -vc '# SKIP')
    failed=$(grep -E '^not ok\b' "$log" | grep -vc '# SKIP')
    planned=$(awk -F'[.][.]' '/^1[.][.][0-9]+$/ { n += $2 } END { print n + 0 }' "$log")
    if [[ $rc == 124 || $rc == 137 ]]; then
        extra="took longer than $TEST_TIMEOUT s"
    elif ((rc > 128)); then
        extra="killed by signal $((rc - 128))"
    elif ((passed + failed + skipped < planned)); then
        extra="only $((passed + failed + skipped)) of $planned tests ran, exit code $rc"
    elif ((rc != 0 && failed == 0)); then
        extra="exit code $rc"
    elif ((passed + failed + skipped == 0)); then
        extra="ran no test"
    fi
    if [[ $extra ]]; then
        echo "not ok - $test: $extra" >>"$log"
        ((failed += 1))
    fi
    cat "$log.err" >>"$log"
    rm -f "$log.err"
    echo "$passed $failed $skipped" >"$log.count"
    printf '%-5s %s (%d s)\n' "$( ((failed)) && echo FAIL || echo ok)" "${test#"$BUILD"/}" $((SECONDS - start))
}
export -f log_of run_one

tests=()
for test; do
    wanted=${TESTS:+no}
    for word in ${TESTS-}; do [[ $test == *$word* ]] && wanted=yes; done
    [[ $wanted == no ]] || tests+=("$test")
done

passed=0 failed=0 skipped=0
if ((${#tests[@]})); then
    # a result of an earlier run must not be counted when a test dies before it writes its own
    for test in "${tests[@]}"; do rm -f "$(log_of "$test").count"; done
    together=() alone=()
    for test in "${tests[@]}"; do
        if [[ $test == *.sh ]] && grep -qx '# tests/run.sh: alone' "$test"; then
            alone+=("$test")
        else
            together+=("$test")
        fi
    done
    run_all() # AT_ONCE TEST...
    {
        (($# > 1)) && printf '%s\0' "${@:2}" | xargs -0 -n 1 -P "$1" bash -c 'run_one "$1"' _
    }
    run_all "$(($(nproc) + 1))" "${together[@]}" # some wait, for seconds, for what they time
    unset OMP_WAIT_POLICY
    run_all 1 "${alone[@]}"
else
    echo "no test to run"
    failed=1
fi

for test in "${tests[@]}"; do
    log=$(log_of "$test")
    p=0 f=1 s=0
    [[ -f $log.count ]] && read -r p f s <"$log.count"
    ((passed += p, failed += f, skipped += s))
    ((f)) && printf '\n---- %s\n%s\n' "$log" "$(tail -n 200 "$log")"
done
((failed)) && echo
((skipped)) && echo "$skipped skipped"
echo "$passed passed, $failed failed"
((failed == 0))
