#!/usr/bin/env bash
# Measures in release what messages and the machine cost, and writes the figures into docs/benchmarks.md and the JSON
# beside it. `bench.sh wire` and `bench.sh proto` measure one of the two and leave the other's figures as they are. Any
# other arguments are those of the benchmarks (a filter, --min-time 1): with them, nothing is written.
# Take figures in a quiet moment: a busy machine shows in the median first.
set -euo pipefail
cd "$(dirname "$0")/.."

package=(--locked -p warp-blink --no-default-features)
all=(wire proto)
case "${1:-}" in
    "") ;;
    wire | proto) all=("$1") ;;
    *) exec cargo bench --quiet "${package[@]}" "${all[@]/#/--bench=}" -- --color never "$@" ;;
esac
command -v python3 >/dev/null || { echo "bench.sh: the tables are written by python3, which is not here" >&2; exit 1; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for name in "${all[@]}"; do
    cargo bench --quiet "${package[@]}" --bench "$name" -- --color never --min-time 0.5 | tee "$out/$name"
done
if [ -e "$out/proto" ]; then
    # What is held in memory is counted where it is bounded.
    cargo test --quiet --release "${package[@]}" --test proto_alloc -- --nocapture | grep -o '#held .*' | tee -a "$out/proto"
fi
python3 scripts/bench-tables.py "$out"/*
