#!/usr/bin/env bash
# How good speech sounds at the far end of a network that loses packets: PESQ (ITU-T P.862.2) of real speech that went
# through the whole pipeline on a virtual clock, for several seeds. Writes docs/audio-quality.md and the JSON beside it.
#
#   make audio-quality              three seeds, some minutes
#   make audio-quality SEEDS=15     more; the committed figures say how many
#   scripts/audio-quality.sh --only bursts     cases whose name has this in it; writes nothing
#   scripts/audio-quality.sh --check           judges, and writes nothing
#
# What it needs beside Python 3, a C compiler and Debian's apt-get comes into target/audio-quality: nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/ready.sh
target=${CARGO_TARGET_DIR:-target}
work=$target/audio-quality
speech_ready "$work"

${CARGO:-cargo} build --quiet --locked --release -p host-media --example quality
exec "$work/venv/bin/python" scripts/audio-quality.py --work "$work" --program "$target/release/examples/quality" --seeds "${SEEDS:-3}" "$@"
