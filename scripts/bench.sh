#!/usr/bin/env bash
# Measures in release what messages, the machine, connections, sound, being found and many people cost, and writes the figures into
# docs/benchmarks.md, and the JSON and the plots beside it. `bench.sh wire`, `proto`, `links`, `audio`, `reach` and `scale` measure one
# of them and leave the others' figures as they are; `bench.sh plots` makes the plots anew of what was measured before.
# Without arguments whole calls are measured last, where they can be: scripts/calls.sh, which writes docs/benchmarks-calls.md.
# Any other arguments are those of the first two (a filter, --min-time 1): with them, nothing is written.
# `bench.sh try` runs each of the first two and of sound once, being found with two phones, and the smallest of each kind of call, built
# as the tests are: whether they work, in minutes. It writes nothing.
# Take figures in a quiet moment: a busy machine shows in the median first.
set -euo pipefail
cd "$(dirname "$0")/.."

package=(--locked -p warp-blink --no-default-features)
all=(wire proto)
links=yes
audio=yes
reach=yes
scale=yes
case "${1:-}" in
    "") ;;
    wire | proto) all=("$1") links= audio= reach= scale= ;;
    links) all=() audio= reach= scale= ;;
    audio) all=() links= reach= scale= ;;
    reach) all=() links= audio= scale= ;;
    scale) all=() links= audio= reach= ;;
    plots) exec python3 scripts/bench_plots.py ;;
    try)
        cargo test --workspace --locked --bench wire --bench proto --bench audio -- --test
        cargo test --workspace --locked --bench reach -- --phones 0
        # With a test, so that the features of dependencies are those of the tests.
        cargo build --workspace --locked --bin scale --test house
        exec "${CARGO_TARGET_DIR:-target}/debug/scale" --try
        ;;
    *) exec cargo bench --quiet "${package[@]}" "${all[@]/#/--bench=}" -- --color never "$@" ;;
esac
command -v python3 >/dev/null || { echo "bench.sh: the tables are written by python3, which is not here" >&2; exit 1; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for name in ${all[@]+"${all[@]}"}; do
    cargo bench --quiet "${package[@]}" --bench "$name" -- --color never --min-time 0.5 | tee "$out/$name"
done
if [ -e "$out/proto" ]; then
    # What is held in memory is counted where it is bounded.
    cargo test --quiet --release "${package[@]}" --test proto_alloc -- --nocapture | grep -o '#held .*' | tee -a "$out/proto"
fi
if [ -n "$audio" ]; then
    cargo bench --quiet --locked -p host-media --no-default-features --bench audio -- --color never | tee "$out/audio"
fi
if [ -n "$links" ]; then
    # They need the engine itself, and the network in memory of the tests, so they are tests; each is a process of its own.
    run=(cargo test --quiet --release --locked -p simple-webrtc --lib -- --ignored --nocapture --exact)
    for name in setup::measure_set_up setup::measure_set_up_on_one_machine setup::measure_accepted setup::measure_relayed_packets \
        load::measure_processor load::measure_memory_of_ours load::measure_memory_of_the_bare_engine load::measure_listeners; do
        "${run[@]}" "engine::webrtc::bench::$name" | grep -o '#[a-z_]* .*' | tee -a "$out/links"
    done
fi
if [ -n "$reach" ]; then
    # Both ends of all connections are in one process: it needs more open files than most systems give at first.
    phones=${PHONES:-200}
    ulimit -S -n "$(ulimit -H -n)"
    cargo bench --quiet --locked -p warp-blink --bench reach -- --phones "$phones" | tee "$out/reach"
fi
if [ -n "$scale" ]; then
    cargo build --quiet --release --locked -p blink-tests --bin scale
    "${CARGO_TARGET_DIR:-target}/release/scale" | tee "$out/scale"
fi
python3 scripts/bench-tables.py "$out"/*
python3 scripts/bench_plots.py
if [ -z "${1:-}" ]; then
    if [ "$(uname -s)" = Linux ] && [ "$(id -u)" -eq 0 ] && [ -c /dev/net/tun ]; then
        scripts/calls.sh bench
    else
        echo "Whole calls were not measured: they need root and Linux with TUN devices (make bench-calls)."
    fi
fi
