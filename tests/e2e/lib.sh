# For shell tests; source it first:   . "$(dirname "$0")/../e2e/lib.sh"
#
#     run "$KINOWATT" predict wan2.1-t2v-1.3b      keeps its stdout, stderr and exit code
#     expect_rc 0
#     expect_out 'denoise .* s'                    extended regular expression, some line of stdout
#     expect test -s out.json                      any command that must succeed
#     ok "predicts the built-in model"             closes the test: ok if every expectation held
#
# The script runs in an empty folder of its own, removed at the end. $root is the repository, $KINOWATT
# the command, $rc, $out and $err the last exit code and the files with its stdout and stderr. A crash
# or a sanitizer's report in `run` fails the test whatever it expects.

set -u
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export KINOWATT=${KINOWATT:-$root/build/kinowatt}
unset KINOWATT_DATA # the command finds its own
unset KINOWATT_STORE XDG_DATA_HOME # and the user's data below HOME
base=$(mktemp -d)
export TMPDIR=$base HOME=$base/home
mkdir "$base/work" "$HOME"
cd "$base/work" || exit 1
out=$base/stdout err=$base/stderr rc=
problems=() checked=0 bad=0

run() # COMMAND...
{
    "$@" >"$out" 2>"$err" </dev/null
    rc=$?
    case $rc in
    132 | 134 | 135 | 136 | 139) problem "crashed with signal $((rc - 128)): $*" ;;
    *) grep -qE 'runtime error:|(Address|Leak)Sanitizer' "$err" && problem "sanitizer report: $*" ;;
    esac
    last_command="$*"
}

# Starts a command, of which `pid` is the process, and has its exit code in $rc when it has ended. bash 5.2 may wait for
# ever for a process that ended while another was started: here a shell of its own waits, which starts no other.
begin() # COMMAND...
{
    rm -f "$base/pid" "$base/status"
    (
        "$@" &
        echo $! >"$base/pid"
        wait $!
        echo $? >"$base/status"
    ) &
    until [[ -s $base/pid ]]; do sleep 0.02; done
    pid=$(<"$base/pid")
}

end()
{
    until [[ -s $base/status ]]; do sleep 0.02; done
    rc=$(<"$base/status")
}

problem() # TEXT: one more reason why the current test fails
{
    problems+=("$1")
}

expect_rc() # N
{
    checked=1
    [[ $rc == "$1" ]] || problem "exit code $rc, not $1: $last_command"
}

expect_out() # REGEX
{
    checked=1
    grep -qE -e "$1" "$out" || problem "stdout has no line like: $1"
}

expect_err() # REGEX
{
    checked=1
    grep -qE -e "$1" "$err" || problem "stderr has no line like: $1"
}

expect_out_lines() # N
{
    checked=1
    [[ $(wc -l <"$out") -eq $1 ]] || problem "stdout has $(wc -l <"$out") lines, not $1"
}

expect_err_lines() # N
{
    checked=1
    [[ $(wc -l <"$err") -eq $1 ]] || problem "stderr has $(wc -l <"$err") lines, not $1"
}

expect() # COMMAND...: must succeed
{
    checked=1
    "$@" >"$base/expect" 2>&1 || problem "failed: $* $(head -c 500 "$base/expect")"
}

# Expects stdout to be JSON in which the Python expression over `d` is true.
expect_json() # EXPRESSION
{
    checked=1
    command -v python3 >/dev/null || return 0
    python3 - "$out" "$1" >"$base/json" 2>&1 <<'PYTHON' || problem "JSON: $1: $(tail -n 1 "$base/json")"
import json, sys
def refuse(name): raise ValueError(name + " is not JSON")
d = json.load(open(sys.argv[1]), parse_constant=refuse)
assert eval(sys.argv[2]), "false"
PYTHON
}

expect_nothing() # no file is in the folder, hidden or not
{
    expect test -z "$(ls -A)"
}

ok() # NAME
{
    if ((${#problems[@]} == 0)); then
        echo "ok - $1"
    else
        fail "$1"
    fi
    problems=() checked=0
}

fail() # NAME
{
    echo "not ok - $1"
    bad=1
    if ((${#problems[@]})); then printf '#   %s\n' "${problems[@]}"; fi
    if [[ -s $out ]]; then echo "#   stdout:" && head -n 20 "$out" | sed 's/^/#     /'; fi
    if [[ -s $err ]]; then echo "#   stderr:" && head -n 20 "$err" | sed 's/^/#     /'; fi
    problems=() checked=0
}

skip() # NAME REASON
{
    echo "ok - $1 # SKIP $2"
    problems=() checked=0
}

finish()
{
    local status=$?
    ((checked || ${#problems[@]})) && fail "expectations at the end without a name"
    cd / && rm -rf "$base"
    ((status == 0 && bad)) && status=1
    exit "$status"
}
trap finish EXIT
