#!/usr/bin/env bash
# Every check that CI leaves out (CI runs `make test`), one after another, and one table of what came of them. Each is given
# LIMIT seconds, 600 if nothing else is said, after everything has been built; what takes longer as it is runs with less here.
# What cannot run on this machine counts as failed, unless SKIP names it; ONLY names those that are to run.
#
#   make check-all
#   make check-all SKIP="test-browser test-lab"
#   make check-all ONLY="lint sim" LIMIT=1200
#
# What each wrote is in target/check-all. It stops for nothing: all are run, whatever becomes of the first.
set -uo pipefail
cd "$(dirname "$0")/.."

# Target, how it is called, and what it needs of the machine, which it installs by itself where it can. A target of the Makefile that is no check, or that `make test`
# covers, stands in NOT_HERE with the reason: tests/tests/house sees that none is forgotten.
CHECKS=(
    "lint||"
    "sim|RUNS=3000|"
    "guard||python3 command:valgrind"
    "bench|TRY=1|"
    "fuzz|SECONDS=10|"
    "audio-quality|CHECK=1|linux python3"
    "test-turn||command:turnserver"
    "test-interop||command:node"
    "test-devices||linux command:pulseaudio"
    "test-browser||command:chromium command:firefox-esr"
    "test-lab|NAMES='--skip percent --skip outage_of_33_s --skip quic --skip with_coturn --skip for_media_alone'|linux root tun"
    "lab|PROFILE=lan,loss10 SEED=1|linux root tun"
    "bench-calls|PROFILE=lan SEEDS=1|linux root tun"
    "soak||linux"
)
NOT_HERE=(
    "help: lists the targets"
    "setup: each target does it"
    "test: what CI runs"
    "demo: tests/tests/e2e_demo.rs makes one"
    "clean-demo: removes its files"
    "fmt: lint says whether it is needed"
    "doc: lint builds it"
    "check-all: this one"
)

cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
logs=$target/check-all
limit=${LIMIT:-600}
mkdir -p "$logs"

# Why something cannot run here; nothing if it can.
cannot() {
    local need
    for need in $1; do
        case $need in
            linux) [ "$(uname -s)" = Linux ] || echo "needs Linux" ;;
            root) [ "$(id -u)" -eq 0 ] || echo "needs root" ;;
            tun) [ -c /dev/net/tun ] || echo "this kernel has no TUN devices" ;;
            python3) command -v python3 >/dev/null || echo "needs python3" ;;
            command:*)
                command -v "${need#command:}" >/dev/null || installs ||
                    echo "${need#command:} is missing, and cannot be installed from here"
                ;;
        esac
    done
}

installs() {
    command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

named() { [[ " $2 " == *" $1 "* ]]; }

known=" "
for check in "${CHECKS[@]}"; do known+="${check%%|*} "; done
for name in ${SKIP:-} ${ONLY:-}; do
    named "$name" "$known" || { printf 'check-all.sh: there is no check %s; there are:%s\n' "$name" "$known" >&2; exit 2; }
done

rows=()
failed=0
# row NAME RESULT SECONDS
row() {
    rows+=("$(printf '%s\t%s\t%s' "$1" "$2" "$3")")
    case $2 in ok* | skipped*) ;; *) failed=$((failed + 1)) ;; esac
}

# step NAME SECONDS COMMAND...: what it says goes into a log, and its end to here if it fails. 0 seconds: no limit.
step() {
    local name=$1 seconds=$2 status=0 begun=$SECONDS
    shift 2
    printf '==> %s\n' "$name"
    timeout --kill-after=20 "$seconds" "$@" >"$logs/$name.log" 2>&1 </dev/null || status=$?
    case $status in
        0) row "$name" ok $((SECONDS - begun)) ;;
        124 | 137) row "$name" "FAILED: not done after $seconds s" $((SECONDS - begun)) ;;
        *) row "$name" "FAILED: exit code $status" $((SECONDS - begun)) ;;
    esac
    [ $status -eq 0 ] || tail -n 15 "$logs/$name.log"
    printf '    %d s\n' $((SECONDS - begun))
}

chosen=" "
for name in $known; do
    if { [ -z "${ONLY:-}" ] || named "$name" "$ONLY"; } && ! named "$name" "${SKIP:-}"; then chosen+="$name "; fi
done

# Building takes as long as it takes, and is not what is measured here. Only what those that are to run need.
build() {
    set -e
    wanted() { [[ $chosen == *" $1 "* ]]; }
    "$cargo" build --workspace --locked --bins --examples --tests
    if wanted bench; then "$cargo" build --workspace --locked --benches; fi
    if wanted lint; then
        "$cargo" check --workspace --locked --all-targets # what clippy and rustdoc read of dependencies
        scripts/deny.sh build
    fi
    if wanted sim; then "$cargo" build --release --locked -p blink-sim; fi
    if wanted audio-quality; then "$cargo" build --release --locked -p host-media --example quality; fi
    if wanted bench-calls; then "$cargo" build --release --locked -p blink-examples --bin blink; fi
    if wanted fuzz; then scripts/fuzz.sh build; fi
}
export -f build
export cargo chosen
step build 0 bash -c build

for check in "${CHECKS[@]}"; do
    IFS='|' read -r name settings needs <<<"$check"
    if [ -n "${ONLY:-}" ] && ! named "$name" "$ONLY"; then
        continue
    fi
    if named "$name" "${SKIP:-}"; then
        row "$name" "skipped: SKIP names it" 0
        continue
    fi
    why=$(cannot "$needs" | paste -sd ',' -)
    if [ -n "$why" ]; then
        row "$name" "CANNOT RUN: $why" 0
        continue
    fi
    # Quotes in the settings are the shell's.
    eval "set -- $settings"
    # What is told of this run is not told of theirs.
    step "$name" "$limit" env -u SKIP -u ONLY -u LIMIT -u MAKEFLAGS -u MAKELEVEL make --no-print-directory "$name" "$@"
done

printf '\n%-14s %7s  %s\n' check seconds result
for row in "${rows[@]}"; do
    IFS=$'\t' read -r name result seconds <<<"$row"
    printf '%-14s %7s  %s\n' "$name" "$seconds" "$result"
done
if [ "$failed" -ne 0 ]; then
    printf '\n%d of %d did not pass; what they wrote is in %s\n' "$failed" "${#rows[@]}" "$logs"
    exit 1
fi
