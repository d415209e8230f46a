#!/bin/bash
# mark, from scripts, programs and Python: stages in the run, and nothing at all without a record.
. "$(dirname "$0")/../e2e/lib.sh"

export KINOWATT_STORE=$base/runs.db
record=("$KINOWATT" record --meter none -o run.json)
have_python=$(command -v python3)
export PYTHONPATH=$root/python PYTHONDONTWRITEBYTECODE=1

# "total a/b ...": each window with the one it is nested in, in the order they began.
windows()
{
    sed 's/{"name"/\n{"name"/g' run.json | sed -n 's/^{"name": "\([^"]*\)", "parent": \([0-9a-z]*\),.*/\1 \2/p' |
        sed 's/ \(.* \)/_\1/' | awk '{ names[NR - 1] = $1; print $1 ($2 == "null" ? "" : "<" names[$2]) }' | xargs
}

expect_windows() # NAMES
{
    checked=1
    [[ $(windows) == "$1" ]] || problem "windows are: $(windows)"
}

# ---- Scripts ----

run "${record[@]}" -- sh -c '"$KINOWATT" mark load; (sleep 0.1; "$KINOWATT" mark --begin inner; "$KINOWATT" mark --end inner)
    "$KINOWATT" mark decode --set attention=math --set num_frames=17; true'
expect_rc 0
expect test ! -s "$out"
expect_windows 'total load<total inner<load decode<total'
expect grep -q '"num_frames": 17' run.json
expect grep -q '"attention": "math"' run.json
expect test "$(grep -c warning "$err")" = 0
ok "a script's marks are one sequence, whatever process sends them"

run "$KINOWATT" mark a
expect_rc 0
expect test ! -s "$out" -a ! -s "$err"
KINOWATT_SOCKET=$base/gone run "$KINOWATT" mark --begin a --set b=c
expect_rc 0
expect test ! -s "$out" -a ! -s "$err"
for wrong in '' '--set a' '--set=a b=1' '--set==1' '--begin=' $'a\nb' "$(printf 'x%.0s' {1..64})"; do
    run "$KINOWATT" mark ${wrong:+"$wrong"}
    expect_rc 2
    expect_err_lines 1
done
ok "without a record a mark does nothing, silently; what is wrong is said"

# ---- What can be wrong with marks ----

run "${record[@]}" -- sh -c '"$KINOWATT" mark --end a; "$KINOWATT" mark --begin a; "$KINOWATT" mark --begin b; "$KINOWATT" mark --end a;
    (sleep 0.3; "$KINOWATT" mark late) & exit 3'
expect_rc 3
expect_err 'warning: marks: 1 never closed .*, 1 ended before one that began in them, 1 ends of what had not begun$'
expect grep -q '"note": "never closed"' run.json
ok "ends out of order, of nothing and after the end"
run "${record[@]}" -- sh -c 'for i in 1 2 3; do "$KINOWATT" mark --begin step; "$KINOWATT" mark load; done; "$KINOWATT" mark --end step'
expect_rc 0
expect_windows 'total step<total load<step step<total load<step step<total load<step'
expect_err 'warning: marks: 2 never closed'
expect test "$(grep -o '"note": "never closed"' run.json | wc -l)" = 2
ok "a stage that a script begins anew has ended: loops do not nest"
if [[ $have_python ]]; then
    cat >odd.py <<'PYTHON'
import os, socket, sys, time
def send(*lines):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        for line in lines: s.sendto(line, os.environ["KINOWATT_SOCKET"])
now = lambda: str(time.monotonic_ns()).encode()
if sys.argv[1] == "garbage": send(b"", b"\0\1\2", b"begin", b"\xff" * 1000, b"x" * 60000, b"begin a b")
if sys.argv[1] == "time": send(b"begin a 1", b"end a " + now(), b"begin b 18000000000000000000", b"end b " + now())
if sys.argv[1] == "flood":
    for i in range(100000): send(b"begin x " + now(), b"end x " + now())
PYTHON
    run "${record[@]}" -- python3 odd.py garbage
    expect_rc 0
    expect_err 'warning: marks: 6 not understood$'
    run "${record[@]}" -- python3 odd.py time
    expect_err 'warning: marks: 2 with an impossible time'
    expect_windows 'total a<total b<total'
    run timeout 100 "${record[@]}" -- python3 odd.py flood
    expect_rc 0
    expect_err '^  x +4095 '
    expect_err 'warning: marks: 95905 more than can be kept'
fi
ok "marks that are never closed, out of order, garbage, of an impossible time, too many"

# ---- Programs ----

cat >marks.c <<'EOF'
#include <kinowatt.h>
#include <unistd.h>
int main(void)
{
    kw_mark_begin("outer");
    kw_mark_begin("inner one");
    usleep(20000);
    kw_mark_end("inner one");
    if (fork() == 0) {
        kw_mark_next("child");
        return 0;
    }
    kw_mark_begin(NULL);
    kw_mark_set("none", NULL);
    kw_mark_next("next");
    usleep(50000);
    kw_mark_set("torch", "2.11");
    kw_mark_end("next");
    kw_mark_end("outer");
}
EOF
prefix=${PREFIX:-/usr/local} stage=${KINOWATT_STAGE:-$root/build/stage}
read -r -a cc <<<"${CC:-cc} ${CFLAGS-}"
run "${cc[@]}" marks.c -I "$root/include" -L "$stage$prefix/lib" -lkinowatt -o marks
expect_rc 0
export LD_LIBRARY_PATH=$stage$prefix/lib
run ./marks
expect_rc 0
run "${record[@]}" -- ./marks
expect_rc 0
expect grep -q '"torch": "2.11"' run.json
expect test "$(windows | tr ' ' '\n' | sort | xargs)" = 'child<total inner_one<outer next<outer outer<total total'
expect test "$(grep -c warning "$err")" = 0
ok "the C calls, with and without a record"

if [[ $have_python ]]; then
    cat >marks.py <<'PYTHON'
import kinowatt, sys, time, types
edges = []
class cuda:
    ready = True
    is_initialized = staticmethod(lambda: cuda.ready)
    device_count = staticmethod(lambda: 3)
    memory_reserved = staticmethod(lambda device: 4096 * (device != 1))
    def synchronize(device):
        edges.append(device)
        if len(edges) > 2: raise RuntimeError("an illegal memory access, for example")
@kinowatt.window("function")
def function(): time.sleep(0.02)
with kinowatt.window("load"):
    function()
kinowatt.mark("denoise")
kinowatt.mark("decode")
try:
    with kinowatt.window("fails"): raise KeyError
except KeyError: pass
kinowatt.set(attention="cudnn", num_frames=81, prompt="a cat\nsurfs")
sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
try:
    with kinowatt.window("synchronised"): raise KeyError # the program's own error stays
except KeyError: pass
cuda.ready = False
with kinowatt.window("not started"): pass
print(*edges)
PYTHON
    run python3 marks.py
    expect_rc 0
    expect_out '^$'
    run "${record[@]}" -- python3 marks.py
    expect_rc 0
    expect_out '^0 2 0 2$' # both edges of one window, on the cards that have something of the program
    expect_windows 'total load<total function<load denoise<total decode<total fails<decode synchronised<decode not_started<decode'
    expect grep -q '"num_frames": 81' run.json
    expect_err 'warning: marks: 1 not understood$' # a setting of two lines
    ok "the Python module, with and without a record; it waits for the GPU"
else
    skip "the Python module" "no python3"
fi
