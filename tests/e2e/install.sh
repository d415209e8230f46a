#!/bin/bash
# The installed tree serves a program that knows it only through pkg-config, against the shared library
# and against the static one; the tree may be moved, and it holds what is promised.
. "$(dirname "$0")/../e2e/lib.sh"

prefix=${PREFIX:-/usr/local}
stage=${KINOWATT_STAGE:-$root/build/stage}$prefix
export PKG_CONFIG_PATH=$stage/lib/pkgconfig
read -r -a cc <<<"${CC:-cc} -std=c11 -Wall -Wextra ${CFLAGS-}"
# the tree is not at its prefix, so pkg-config tells from where it found the .pc file
flags() # OPTION...
{
    pkg-config --define-prefix "$@" kinowatt
}

for file in bin/kinowatt lib/libkinowatt-nvtx.so include/kinowatt.h lib/libkinowatt.a lib/libkinowatt.so share/man/man1/kinowatt.1 \
    share/doc/kinowatt/LICENSE share/doc/kinowatt/predict.c share/kinowatt/hardware/h100-sxm.json \
    share/kinowatt/models/wan2.1-t2v-14b/transformer/config.json share/kinowatt/python/kinowatt.py; do
    expect test -s "$stage/$file"
done
run grep -rIlE "$root|$base" "$stage/lib/pkgconfig" "$stage/include" "$stage/share"
expect_rc 1
ok "the tree is complete and names no build folder"

run pkg-config --modversion kinowatt
expect_rc 0
expect_out '^[0-9]+\.[0-9]+\.[0-9]+$'
run pkg-config --variable=prefix kinowatt
expect_out "^$prefix\$"
version=$(pkg-config --modversion kinowatt)
run "$stage/bin/kinowatt" --version
expect_rc 0
expect_out "$version"
ok "pkg-config knows it, with the version of the command"

cp "$stage/share/doc/kinowatt/predict.c" use.c
run "${cc[@]}" use.c -o shared $(flags --cflags --libs)
expect_rc 0
run env LD_LIBRARY_PATH="$stage/lib" KINOWATT_DATA="$stage/share/kinowatt" ./shared
expect_rc 0
expect_out '^wan2\.1-t2v-1\.3b on h100-sxm: [0-9.]+ s, [0-9.]+ Wh$'
run env LD_LIBRARY_PATH="$stage/lib" ldd ./shared
expect_out 'libkinowatt\.so\.0'
ok "the example builds and runs against the shared library"

run "${cc[@]}" use.c -o static $(flags --cflags) "$stage/lib/libkinowatt.a" \
    $(flags --static --libs | sed 's/-lkinowatt//')
expect_rc 0
run env KINOWATT_DATA="$stage/share/kinowatt" ./static wan2.1-t2v-14b 17 h200
expect_rc 0
expect_out '^wan2\.1-t2v-14b on h200: [0-9.]+ s, [0-9.]+ Wh$'
ok "and against the static one"

run env KINOWATT_DATA="$stage/share/kinowatt" ./static wan2.1-t2v-1.3
expect_rc 1
expect_err_lines 1
expect_err '^not found: .*did you mean "wan2\.1-t2v-1\.3b"'
run env KINOWATT_DATA=/nowhere ./static
expect_rc 1
expect_err '^not found: /nowhere is no kinowatt data folder'
ok "the example says what is wrong"

# a program beside the data finds it; so does the command, wherever the tree is
mkdir -p moved/bin
cp static "$stage/bin/kinowatt" moved/bin/
cp -r "$stage/share" moved/
run moved/bin/static
expect_rc 0
run moved/bin/kinowatt predict wan2.1-t2v-1.3b
expect_rc 0
ok "a moved tree finds its data"

printf '#include <kinowatt.h>\nint main() { return kw_version() == nullptr; }\n' >plus.cc
if command -v c++ >/dev/null && c++ --version >/dev/null 2>&1; then
    run c++ plus.cc -Wall -Wextra -Werror $(flags --cflags --libs) -o plus ${CFLAGS-}
    expect_rc 0
    ok "the header is C++ too"
else
    skip "the header is C++ too" "no C++ compiler"
fi
