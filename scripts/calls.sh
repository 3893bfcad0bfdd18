#!/usr/bin/env bash
# Whole calls over emulated networks (tests/lab), as root on Linux. Fails where it does not have what it needs, and if a call
# fails.
#
#   calls.sh lab      `make lab`: the `blink` command, and prints the table
#   calls.sh bench    `make bench-calls`: blink and Chromium in turns, and writes docs/benchmarks-calls.md
#
# PROFILE=lan,loss10   these networks alone (then nothing is written)      SEED=1 SEEDS=1   the first seed, and how many
# SET_UPS=1            calls of which only the set-up is measured, for each whole one
# WITH=blink,chromium  who talks          BLINK_BIN=FILE   another program than the one of this tree
# OUT=DIR              where results go   BLINK_LAB_KEEP=1 recordings stay there
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/ready.sh

mode=${1:-lab}
case "$mode" in
    lab) with=${WITH:-blink} target=lab ;;
    bench) with=${WITH:-blink,chromium} target=bench-calls ;;
    *) say "calls.sh: lab or bench, not $mode"; exit 2 ;;
esac
needs=()
case ",$with," in *,chromium,*) needs=(chromium:chromium) ;; esac
lab_ready "$target" ${needs[@]+"${needs[@]}"}

cargo=${CARGO:-cargo}
build=${CARGO_TARGET_DIR:-target}
work=$build/audio-quality
out=${OUT:-$build/$target}
speech_ready "$work"
if [ -n "${BLINK_BIN:-}" ]; then
    "$cargo" build --quiet --locked -p blink-lab --bin lab-calls
elif [ "$mode" = bench ]; then
    # What the processor does is worth nothing without optimisation.
    "$cargo" build --locked --release -p blink-examples --bin blink
    "$cargo" build --quiet --locked -p blink-lab --bin lab-calls
    BLINK_BIN=$build/release/blink
else
    # The whole workspace, so that this rebuilds nothing that the tests have built, and the other way round.
    "$cargo" build --workspace --locked --bin blink --bin lab-calls --test house
    BLINK_BIN=$build/debug/blink
fi
export BLINK_BIN

python=$work/venv/bin/python
"$python" scripts/calls.py words --work "$work" --words "$work/words"
options=(--words "$work/words" --out "$out" --with "$with" --profile "${PROFILE:-}")
options+=(--seed "${SEED:-1}" --seeds "${SEEDS:-1}" --set-ups "${SET_UPS:-1}")
status=0
"$build/debug/lab-calls" "${options[@]}" || status=$?
# Wrong options: nothing was measured.
[ $status -le 1 ] || exit $status
docs=()
[ "$mode" = lab ] || [ -n "${PROFILE:-}" ] || docs=(--docs)
printf '\n'
"$python" scripts/calls.py report --words "$work/words" --out "$out" ${docs[@]+"${docs[@]}"}
exit $status
