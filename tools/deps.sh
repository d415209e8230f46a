#!/bin/sh
# Installs the Debian packages that are missing, by name. Silent when there is nothing to do; only
# lists them, and fails, when it may not install. --dev adds what gates, fuzzing and CI need.
set -eu

packages="gcc libc6-dev make pkg-config libjansson-dev liblapacke-dev libcmocka-dev g++ libsentencepiece-dev \
    libavformat-dev libavcodec-dev libavutil-dev libdnnl-dev libsqlite3-dev"
modules="jansson lapacke sqlite3 cmocka sentencepiece"
case ${1-} in
'') ;;
--dev) packages="$packages clang clang-format libclang-rt-dev git \
    slurmctld slurmd slurm-client munge" ;;
*)
    echo "usage: tools/deps.sh [--dev]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    if pkg-config --exists $modules 2>/dev/null; then exit 0; fi
    echo "kinowatt needs a C11 compiler, GNU make, pkg-config and the libraries $modules;" >&2
    echo "pkg-config does not find them all. Install them with this system's package manager." >&2
    exit 1
fi

missing=
for package in $packages; do
    # Of a library for several architectures there is one line each.
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=
elif sudo -n true 2>/dev/null; then
    sudo="sudo -n"
else
    echo "Packages are missing and installing them needs root. Run:" >&2
    echo "    sudo apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

echo "Installing missing packages:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { $sudo apt-get update && $sudo apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "Could not install:$missing" >&2
    exit 1
fi
