#!/bin/bash
# Predicted against measured, stage by stage: calibrates this machine, then makes clips of the nano model at six
# sizes that the calibration does not use, RUNS of each, the sizes in turn (bench/clip_stages.c). Compared is
# what undisturbed operators take, which the calibration holds too; beside it the quickest and the slowest of the
# clips as they were. Then, each size in a process of its own, the peak of memory. The last lines are the mean
# errors: of stages against undisturbed operators (10 % at most is wanted) and against the quickest clips.
#
#     bench/predict_vs_measured.sh           RUNS=3  CALIBRATION_SECONDS=45  CALIBRATE=no: use the user's
set -eu
kinowatt=${KINOWATT:-build/kinowatt}
clip_stages=$(dirname "$kinowatt")/bench/clip_stages
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# width height frames steps
sizes="256 144 17 8
320 192 9 6
192 192 13 10
384 224 5 6
160 96 33 8
448 256 9 4"

if [ "${CALIBRATE:-yes}" = yes ]; then
    export XDG_DATA_HOME=$folder
    "$kinowatt" calibrate --device cpu --seconds "${CALIBRATION_SECONDS:-45}" >/dev/null
fi

memory() { # WIDTH HEIGHT FRAMES: predicted and peak, MB
    "$kinowatt" generate wan2.1-t2v-nano -W "$1" -H "$2" -f "$3" -s 1 -p "a cat walks on the grass" \
        -o "$folder/clip.y4m" --meter none --json </dev/null 2>"$folder/log" >"$folder/run.json" ||
        { cat "$folder/log" >&2; exit 1; }
    awk -F'[:,]' -v size="$1x$2x$3" '
        /"peak_anonymous_bytes"/ { peak = $2 }
        /"predicted_bytes"/ { inside = 1 }
        inside && /"value"/ { print size, "memory", 1e-6 * $2, 1e-6 * peak, 0, 0; inside = 0 }
    ' "$folder/run.json"
}

{
    # shellcheck disable=SC2086
    "$clip_stages" "${RUNS:-3}" $sizes
    while read -r width height frames steps; do memory "$width" "$height" "$frames"; done <<<"$sizes"
} | awk '
    {
        unit = $2 == "memory" ? "MB" : "ms"; error = $3 / $4 - 1; quickest = $5 ? $3 / $5 - 1 : 0
        printf "%-12s %-12s predicted %9.2f  measured %9.2f %s  %+6.1f %%", $1, $2, $3, $4, unit, 100 * error
        if (unit == "ms") printf "   clips %9.2f to %9.2f, %+6.1f %%", $5, $6, 100 * quickest
        printf "\n"
        if (!($2 in count)) stage[s++] = $2
        count[$2]++; bias[$2] += error; sum[$2] += error < 0 ? -error : error
        whole[$2] += quickest < 0 ? -quickest : quickest
    }
    END {
        for (i = 0; i < s; i++) {
            name = stage[i]
            printf "%-12s mean error %4.1f %%, bias %+5.1f %%", name, 100 * sum[name] / count[name],
                   100 * bias[name] / count[name]
            if (name != "memory") printf ", of the quickest clips %4.1f %%", 100 * whole[name] / count[name]
            printf "\n"
        }
    }'
