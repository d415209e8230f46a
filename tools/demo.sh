#!/bin/sh
# The main job; `make demo` runs it with KINOWATT set to the command just built. First WAN2.1 predicted, beside what
# others measured; then this machine: a short calibration, and a small clip predicted and measured.
set -eu
"$KINOWATT" predict wan2.1-t2v-1.3b
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo
echo "This machine's CPU is timed for half a minute; what it makes is noise, since the weights are random."
"$KINOWATT" calibrate --device cpu --seconds 30 -o "$folder/cpu.json"
"$KINOWATT" generate wan2.1-t2v-nano -p "a cat surfs a wave" --calibration "$folder/cpu.json" -o "$(dirname "$KINOWATT")/demo.y4m"
