#!/bin/bash
# Wall time of a whole `kinowatt predict`, start to exit: median and spread of many runs.
set -eu
runs=${RUNS:-101}
predict() { "$KINOWATT" predict wan2.1-t2v-1.3b --json >/dev/null; }
for _ in 1 2 3; do predict; done # warm the page cache
for ((i = 0; i < runs; i++)); do
    start=${EPOCHREALTIME/./}
    predict
    echo $((${EPOCHREALTIME/./} - start))
done | sort -n | awk '{ t[NR] = $1 / 1000 }
    END { printf "predict: median %.1f ms, 5 %% %.1f, 95 %% %.1f, %d runs\n",
          t[int((NR + 1) / 2)], t[int(NR * 0.05) + 1], t[int(NR * 0.95)], NR }'
