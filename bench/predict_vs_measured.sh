#!/bin/bash
# Predicted against measured, stage by stage: calibrates this machine, then makes clips of the nano model at
# six sizes that the calibration does not use. Measured is the quickest of RUNS runs, each a process of its
# own: what disturbs a run makes it longer, never shorter. The last lines are the mean errors of the stages
# (10 % at most is wanted), and that of peak memory.
#
#     bench/predict_vs_measured.sh           RUNS=5  CALIBRATION_SECONDS=45  CALIBRATE=no: use the user's
set -eu
kinowatt=${KINOWATT:-build/kinowatt}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ "${CALIBRATE:-yes}" = yes ]; then
    export XDG_DATA_HOME=$folder
    "$kinowatt" calibrate --device cpu --seconds "${CALIBRATION_SECONDS:-45}" >/dev/null
fi

# One line for each stage: name, measured, predicted; then memory, in the same units of the file.
stages() {
    awk -F'[:,]' '
        /^      "name"/ { gsub(/[ "]/, "", $2); name = $2 }
        /^      "latency_s"/ { measured = $2 }
        /^      "predicted_latency_s"/ { inside = 1 }
        inside && /"value"/ { print name, measured, $2; inside = 0 }
        /"peak_anonymous_bytes"/ { peak = $2 }
        /"predicted_bytes"/ { memory = 1 }
        memory && /"value"/ { print "memory", peak, $2; memory = 0 }
    ' "$1"
}

# width height frames steps
sizes="256 144 17 8
320 192 9 6
192 192 13 10
384 224 5 6
160 96 33 8
448 256 9 4"

while read -r width height frames steps; do
    for ((i = 0; i < ${RUNS:-5}; i++)); do
        "$kinowatt" generate wan2.1-t2v-nano -W "$width" -H "$height" -f "$frames" -s "$steps" \
            -p "a cat walks on the grass" -o "$folder/clip.y4m" --meter none --json \
            </dev/null >"$folder/run.json" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
        stages "$folder/run.json" | sed "s/^/${width}x${height}x$frames /"
    done
done <<<"$sizes" | awk '
    { key = $1 " " $2 }
    !(key in least) { order[n++] = key; least[key] = $3 }
    $3 + 0 < least[key] + 0 { least[key] = $3 }
    { predicted[key] = $4 }
    END {
        for (i = 0; i < n; i++) {
            key = order[i]; split(key, part, " "); error = predicted[key] / least[key] - 1
            memory = part[2] == "memory"; scale = memory ? 1e-6 : 1e3
            printf "%-12s %-12s predicted %9.2f  measured %9.2f %s  %+6.1f %%\n", part[1], part[2],
                   scale * predicted[key], scale * least[key], memory ? "MB" : "ms", 100 * error
            if (!(part[2] in count)) stage[m++] = part[2]
            count[part[2]]++; bias[part[2]] += error; sum[part[2]] += error < 0 ? -error : error
        }
        for (i = 0; i < m; i++)
            printf "%-12s mean error %4.1f %%, bias %+5.1f %%\n", stage[i], 100 * sum[stage[i]] / count[stage[i]],
                   100 * bias[stage[i]] / count[stage[i]]
    }'
