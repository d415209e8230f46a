#!/bin/sh
# The main job; `make demo` runs it with KINOWATT set to the command just built. First WAN2.1 predicted, beside what
# others measured; then this machine: a short calibration, and a small clip predicted and measured.
set -eu
"$KINOWATT" predict wan2.1-t2v-1.3b
build=$(dirname "$KINOWATT")
rm -f "$build/demo-cpu.json" # a finished one would not be replaced by another of a busy machine
echo
echo "This machine's CPU is timed for half a minute; what it makes is noise, since the weights are random."
"$KINOWATT" calibrate --device cpu --seconds 30 -o "$build/demo-cpu.json"
"$KINOWATT" generate wan2.1-t2v-nano -p "a cat surfs a wave" --calibration "$build/demo-cpu.json" -o "$build/demo.y4m"
