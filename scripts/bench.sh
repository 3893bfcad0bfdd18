#!/usr/bin/env bash
# Measures sealing, opening and refusing in release, and writes the figures into docs/benchmarks.md and
# docs/benchmarks/wire.json. Arguments are those of the benchmark (a filter, --min-time 1): with any, nothing is written.
# Take figures in a quiet moment: a busy machine shows in the median first.
set -euo pipefail
cd "$(dirname "$0")/.."

bench=(cargo bench --quiet --locked -p warp-blink --no-default-features --bench wire -- --color never)
if [ $# -gt 0 ]; then
    exec "${bench[@]}" "$@"
fi
command -v python3 >/dev/null || { echo "bench.sh: the tables are written by python3, which is not here" >&2; exit 1; }
out=$(mktemp)
trap 'rm -f "$out"' EXIT
"${bench[@]}" --min-time 0.5 | tee "$out"
python3 scripts/bench-tables.py "$out"
