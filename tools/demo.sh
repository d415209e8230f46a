#!/bin/sh
# The main job; `make demo` runs it with KINOWATT set to the command just built.
set -eu
"$KINOWATT" predict wan2.1-t2v-1.3b
