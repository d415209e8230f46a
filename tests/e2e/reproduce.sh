#!/bin/bash
# kinowatt reproduce: the paper's printed figures come out, and the page, its figures and its numbers hold
# together.
. "$(dirname "$0")/../e2e/lib.sh"

run "$KINOWATT" reproduce delavande2025 -o page
expect_rc 0
expect_err_lines 0
expect_out '^resolution +latency +14 +14\.0 +14\.01 .* yes$'
expect_out '^frames +latency +25 +10\.5 +10\.45 .* yes$'
expect_out '^steps +latency +50 +1\.9 +1\.90 .* yes$'
expect_out '^resolution +GPU energy +14 +11\.6 +11\.61 .* yes$'
expect_out '^the paper.s FLOPs, as printed +0\.456 '
expect_out '^the paper.s FLOPs, through zero +0\.458 +0\.0 +0\.9968$'
expect_out '^The page is page/index.md$'
expect_out '^WAN2.1-T2V-1.3B +1280x720 +81 +50 +410\.04 +256\.48 +2[0-9]{2}\.[0-9]+ +78\.81 +48\.99 +[45][0-9]\.[0-9]+ +slope '
expect_out '^LTX-Video-0.9.7-dev +896x640 +121 +30 +17\.81 +14\.30 .* 3\.16 +2\.48 .* measured '
ok "the printed errors come out, and the H200 beside the H100"

index=page/index.md
expect test -s "$index"
# every link leads to a file, every file is linked to
grep -oE '\]\([^)]*\)' "$index" | sed 's/^](\(.*\))$/\1/' | sort -u >links
(cd page && ls -A) | grep -vx index.md >files
expect cmp links files
# tables are rectangular
awk -F'|' '/^\|/ { if (n && NF != n) { print FNR; exit } n = NF } !/^\|/ { n = 0 }' "$index" >ragged
expect test ! -s ragged
expect_no_nan() { ! grep -nE '(^|[^a-z])(nan|inf|-nan)([^a-z]|$)' "$@" >nans; }
expect expect_no_nan "$index" page/*.csv page/*.svg
for svg in page/*.svg; do
    expect test "$(tail -n 1 "$svg")" = "</svg>"
    if command -v xmllint >/dev/null; then expect xmllint --noout "$svg"; fi
done
ok "the page links to all its files, and they are whole"

# Each part of the paper, and each thing that its data mislabel.
for text in 'table 3' 'figure 2' 'figure 3' 'figure 4' 'section 3.4' 'table 4 and figure 5' 'table 1' 'table 7' 'table 2' \
    'labelled 832x480, 60 steps; they ran at 1280x720, 50 steps' 'would be 1173 W' 'its pipeline makes 79' \
    '31 of the 32 rows of the frame sweep' '81 and 83 are one request' 'rows have 50, which the pipeline makes 49 of' \
    '397.9 s in the resolution sweep, 417.3 s in the frames sweep, 410.0 s' 'is 403, not the printed 605' \
    'width of the denoiser         |  2048 |           1536 | no'; do
    expect grep -qF -e "$text" "$index"
done
expect grep -qE '^- \*\*Ours\*\*: .*calibration diffusers-0\.34@h100-sxm of 20[0-9-]{8}: ' "$index"
ok "the page says what stands for what, and what is mislabelled"

# The row of sweeps.csv that the README works out by hand: 1280x720, 81 frames, 50 steps.
expect test "$(wc -l <page/sweeps.csv)" = $((1 + 14 + 32 + 59))
awk -F, '$1 == "resolution" && $2 == 1280 && $3 == 720 { found = $9 == 397.899 && $10 == 76.132 &&
    $14 > 407 && $14 < 407.2 } END { exit !found }' page/sweeps.csv || problem "sweeps.csv: 1280x720"
# predictions of the 14B model, whose rows no fit has seen
awk -F, '$1 == "WAN2.1-T2V-14B" && ($2 == "latency" || $2 == "GPU energy") { n++; if ($8 > 10 || $8 < -10) exit 1 }
    END { exit n != 2 }' page/predicted.csv || problem "predicted.csv: WAN2.1-T2V-14B is more than 10 % off"
ok "the CSV files hold the figures"

mkdir again && echo mine >again/notes && echo old >again/index.md
run "$KINOWATT" reproduce delavande2025 -o again --date 2026-11-24 --csv
expect_rc 0
expect cmp "$out" page/errors.csv
expect grep -qx mine again/notes
expect grep -qx -e '- Made on 2026-11-24\.' again/index.md
grep -vx -e '- Made on 2026-11-24\.' again/index.md >undated
mv undated again/index.md && rm again/notes
expect diff -r page again
ok "the same bytes again but for --date, into a folder that is there"

run "$KINOWATT" reproduce delavande2025 --json
expect_rc 0
expect_out '"schema": "kinowatt.reproduction/1"'
expect_out '"mu": 0\.4577'
ok "JSON"

run bash -c 'ulimit -f 8; trap "" XFSZ; exec "$KINOWATT" reproduce delavande2025 -o small' sh
expect_rc 1
expect_err_lines 1
expect test ! -e small
expect test -z "$(find . -name '*kinowatt*')"
for arguments in '' 'delavande2024' 'delavande2025 --date 24.11.2026' 'delavande2025 --date 2026-13-01' \
    'delavande2025 x' 'delavande2025 --calibration nothing'; do
    # shellcheck disable=SC2086
    run "$KINOWATT" reproduce $arguments
    expect_rc 2
    expect_out_lines 0
    expect_err_lines 1
done
ok "bad input and full disks: one line, nothing half-written"
