#!/bin/bash
# Help, version, and the manual pages: each command has a page, and each option is on it.
. "$(dirname "$0")/../e2e/lib.sh"

run "$KINOWATT" --version
expect_rc 0
expect_out '^kinowatt [0-9]+\.[0-9]+\.[0-9]+$'
expect_out_lines 1
expect_err_lines 0
ok "--version"

run "$KINOWATT" --help
expect_rc 0
expect_err_lines 0
expect_out '^  predict '
expect_out '^Usage: kinowatt COMMAND'
cp "$out" help
ok "--help lists the commands"

run "$KINOWATT"
expect_rc 0
expect cmp "$out" help
run "$KINOWATT" help
expect_rc 0
expect cmp "$out" help
ok "no argument, and help, are --help"

commands=$(sed -n 's/^  \([a-z]*\)  .*/\1/p' help)
for command in $commands; do
    run "$KINOWATT" "$command" --help
    expect_rc 0
    expect_err_lines 0
    expect_out "^Usage: kinowatt $command"
    expect_out '^ +--data DIR'
    cp "$out" help
    run "$KINOWATT" help "$command"
    expect cmp "$out" help
    run "$KINOWATT" "$command" -h
    expect cmp "$out" help
    expect test "$(wc -l <help)" -le 50
    expect test "$(wc -L <help)" -le 110
    ok "$command --help"
done

for command in $commands; do
    page=$root/man/kinowatt-$command.1
    expect test -s "$page"
    "$KINOWATT" "$command" --help | sed -n 's/^ .*--\([a-z0-9-]*\).*/\1/p' | while read -r name; do
        grep -qE "Fl Fl $name( |\$)" "$page" || echo "--$name is not on the page"
    done >missing
    expect test ! -s missing
    expect grep -q "Xr kinowatt-$command 1" "$root/man/kinowatt.1"
    for section in SYNOPSIS DESCRIPTION OPTIONS 'EXIT STATUS' EXAMPLES; do
        expect grep -qx ".Sh $section" "$page"
    done
    ok "kinowatt-$command(1) has each option"
done

if command -v groff >/dev/null && [[ -e /usr/share/groff/current/tmac/mdoc.tmac || -e /usr/share/groff/1.22.4/tmac/mdoc.tmac ]]; then
    for page in "$root"/man/*.1; do groff -mdoc -ww -z -Tutf8 "$page"; done >lint 2>&1
    expect test ! -s lint
    ok "groff has nothing to say about the pages"
else
    skip "groff has nothing to say about the pages" "no groff with mdoc"
fi
if command -v mandoc >/dev/null; then
    expect mandoc -T lint -W warning "$root"/man/*.1
    ok "mandoc has nothing to say about the pages"
else
    skip "mandoc has nothing to say about the pages" "no mandoc"
fi
