#!/bin/bash
# record on a terminal: Ctrl-C, Ctrl-Z and fg, reading, and with --stage its size and that it is one.
. "$(dirname "$0")/../e2e/lib.sh"

command -v python3 >/dev/null || { skip "record on a terminal" "no python3"; exit 0; }
export KINOWATT_STORE=$base/runs.db

# Runs an interactive shell on a terminal of 40 x 100. Arguments by turns: text to wait for, keys to send then.
cat >terminal.py <<'PYTHON'
import fcntl, os, pty, select, struct, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(PS1="prompt> ", TERM="dumb")
    os.execlp("bash", "bash", "--norc", "--noediting", "-i")
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
seen = b""
def read(seconds):
    if not select.select([fd], [], [], seconds)[0]: return None
    try: return os.read(fd, 65536)
    except OSError: return b""
for wait, keys in zip(sys.argv[1::2], sys.argv[2::2]):
    start = time.monotonic()
    while wait.encode() not in seen:
        block = read(0.5)
        if block == b"" or time.monotonic() - start > 30: sys.exit("waited for %r, got %r" % (wait, seen))
        if block: sys.stdout.buffer.write(block); seen += block
    seen = seen.split(wait.encode(), 1)[1]
    if keys.startswith("SIZE "): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *map(int, keys[5:].split()), 0, 0))
    else: os.write(fd, keys.encode())
while True:
    block = read(10)
    if not block: break
    sys.stdout.buffer.write(block)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PYTHON

session() # TEXT KEYS...
{
    run timeout 100 python3 terminal.py "$@"
    tr -d '\r' <"$out" >"$out.plain" && mv "$out.plain" "$out"
}

for stage in '' '--stage never=nothing'; do
    record="$KINOWATT record --meter none $stage --"
    session 'prompt> ' "$record sh -c 'trap \"echo go\"\"t; exit 3\" INT; echo rea\"\"dy; while :; do sleep 0.05; done'; echo \"code \$?.\"
" ready $'\x03' 'code 3.' $'exit 0\n'
    expect_rc 0
    expect test "$(grep -c '^\(\^C\)\?got$' "$out")" = 1
    session 'prompt> ' "$record sh -c 'echo rea\"\"dy; exec sleep 100'; echo \"code \$?.\"
" ready $'\x03' 'code 130.' $'exit 0\n'
    expect_rc 0
    ok "Ctrl-C reaches the command, once ${stage:-}"

    session 'prompt> ' "$record sh -c 'echo rea\"\"dy; read x; echo \"<\$x>\"; exit 5'
" ready $'\x1a' Stopped $'sleep 0.3; fg; echo "code $?."\n' 'read x' $'a word\n' 'code 5.' $'exit 0\n'
    expect_rc 0
    expect_out '^<a word>$'
    expect_out 'warning: the command was stopped for 0\.[2-9] s'
    ok "Ctrl-Z stops both, fg goes on; the command reads the terminal ${stage:-}"

    session 'prompt> ' "$record sh -c 'test -t 1 && test -t 2 && stty size <&1; trap \"stty size <&1; exit 0\" WINCH; echo rea\"\"dy; while :; do sleep 0.05; done'; echo \"code \$?.\"
" ready 'SIZE 50 120' 'code 0.' $'exit 0\n'
    expect_rc 0
    expect_out '^40 100$'
    expect_out '^50 120$'
    ok "the command's output is a terminal, with its size ${stage:-}"
done

session 'prompt> ' "$KINOWATT record --meter none -o run.json --stage a=one --stage b=two -- sh -c 'printf \"one\\\\ttab\\\\n\"; echo two >&2'; echo \"code \$?.\"
" 'code 0.' $'exit 0\n'
expect_out $'^one\ttab$'
expect test "$(grep -o '"name": "[ab]"' run.json | xargs)" = 'name: a name: b'
ok "lines on a terminal begin stages, and are those of a terminal"
