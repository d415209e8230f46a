#!/bin/bash
# The rules a program can check. Prints one line for each breach and fails when there is any.
#
#     tools/gates.sh BUILD
set -u
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=$1
breaches=0

report() # RULE < lines
{
    local line
    while IFS= read -r line; do
        echo "$1: $line"
        ((breaches += 1))
    done
}

files() # PATTERN...: what is committed or would be
{
    git -c safe.directory='*' ls-files -co --exclude-standard -- "$@" | while IFS= read -r file; do [[ -f $file ]] && echo "$file"; done
}

mapfile -t c_files < <(files '*.c' '*.h' '*.cc')
((${#c_files[@]})) || { echo "gates: no C files found" >&2; exit 1; }

command -v clang-format >/dev/null || { echo "gates: clang-format is missing: tools/deps.sh --dev" >&2; exit 1; }
report "format (make format)" < <(clang-format --dry-run -Werror "${c_files[@]}" 2>&1 |
    awk -F: '/error:/ && !seen[$1]++ { print $1 ":" $2 }')

# Functions that overrun, hide errors, run a shell or keep global state.
banned='strcpy|strcat|stpcpy|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|system|popen|rand|srand|alloca'
report "banned function" < <(grep -nE "(^|[^A-Za-z0-9_>.])($banned)\(" "${c_files[@]}")

report "number read by the locale; src/base/number.h reads them" < <(grep -nE "(^|[^A-Za-z0-9_>.])strto(d|f|ld)\(" \
    $(files 'src/*.c') | grep -v '^src/base/number.c:')

# The library never prints, exits or aborts: its objects may not even refer to the means.
silent='stdout|stderr|printf|vprintf|puts|putchar|perror|exit|_exit|_Exit|quick_exit|abort|raise'
report "library prints or exits" < <(nm -A -u "$build/libkinowatt.a" 2>/dev/null |
    sed -E 's/^.*libkinowatt\.a:([^:]*):.* /\1: /' | grep -E ": ($silent)$")

# Symbols: kw_ is public, kw__ is shared between files of the library, the rest is static.
report "exported by the shared library" < <(nm -D --defined-only "$build/libkinowatt.so" |
    awk '$NF !~ /^kw_[a-z0-9]/ { print $NF }')
# (a C++ object shares its templates and its references to exception types, weakly)
report "global symbol of the library" < <(nm -A -g --defined-only "$build/libkinowatt.a" 2>/dev/null |
    grep -vE ' [VWu] (_Z|DW\.ref\.)' | sed -E 's/^.*libkinowatt\.a:([^:]*):.* /\1: /' | grep -vE ': kw_')
report "public function not exported" < <(comm -13 \
    <(nm -D --defined-only "$build/libkinowatt.so" | awk '{ print $NF }' | sort -u) \
    <(nm -g --defined-only "$build/libkinowatt.a" 2>/dev/null | awk '$NF ~ /^kw_[a-z0-9]/ { print $NF }' | sort -u))
report "include/kinowatt.h alone" < <(cc -std=c11 -Wall -Wextra -pedantic -fsyntax-only -x c include/kinowatt.h 2>&1 |
    grep -E 'error|warning')

# Lengths.
report "file longer than 1500 lines" < <(awk 'FNR == 1501 { print FILENAME }' "${c_files[@]}")
report "function longer than 100 lines" < <(awk '
    FNR == 1 { start = 0 }
    /^\{/ || /^[A-Za-z_].*\) *\{$/ { start = FNR }
    /^\}/ { if (start && FNR - start + 1 > 100) print FILENAME ":" start ": " FNR - start + 1; start = 0 }
    ' "${c_files[@]}")

# Nothing of the machine it was written on: home and build folders, private hosts, mirrors of packages.
# This file is left out, as it holds the patterns.
mapfile -t text_files < <(files . ':!tools/gates.sh')
report "path of a machine" < <(grep -nIE '(^|[^A-Za-z0-9_.$}/-])/(home|root|work|workspace|builds?|mnt|Users)/[A-Za-z0-9_.-]' \
    "${text_files[@]}")
report "private host or package mirror" < <(grep -nIE \
    '\b(artifactory|nexus|registry|mirrors?|proxy|pypi|index|npm|crates|deb|packages)(\.[a-z0-9-]+)*\.(org|com|net|io|dev|ai)\b|://[a-z0-9.-]+\.(internal|local|lan|corp)\b' \
    "${text_files[@]}")

if ((breaches)); then
    echo "gates: $breaches breaches"
    exit 1
fi
echo "gates: ok (${#c_files[@]} C files)"
