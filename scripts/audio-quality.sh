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

say() { printf '%s\n' "$*" >&2; }
target=${CARGO_TARGET_DIR:-target}
work=$target/audio-quality
mkdir -p "$work"

if [ ! -x "$work/venv/bin/python" ] || ! "$work/venv/bin/python" -c "import pesq, numpy" 2>/dev/null; then
    python3 -m venv "$work/venv" || {
        say "audio-quality.sh: no virtual environment could be made: 'apt-get install python3-venv python3-dev gcc', then this again."
        exit 1
    }
    # pesq compiles ITU-T's reference code: it needs a C compiler and Python's headers.
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check "pesq==0.0.4" "numpy>=1.26,<3" || {
        say "audio-quality.sh: pesq could not be installed: is there a C compiler, and python3-dev?"
        exit 1
    }
fi

# Real speech: LibriVox recordings (16 kHz) and the prompts of alsa-utils (48 kHz), unpacked and not installed.
speech=$work/debian
if [ ! -e "$speech/usr/share/sounds/alsa/Front_Center.wav" ] || [ ! -d "$speech/usr/share/pocketsphinx/test/data" ]; then
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
        say "audio-quality.sh: the speech is in Debian's packages alsa-utils and pocketsphinx-testdata; without apt-get, unpack both into $speech."
        exit 1
    }
    mkdir -p "$speech"
    (cd "$speech" && apt-get download -q -q alsa-utils pocketsphinx-testdata 2>/dev/null) || {
        say "audio-quality.sh: alsa-utils and pocketsphinx-testdata could not be downloaded: run 'apt-get update' and this again."
        exit 1
    }
    for package in "$speech"/*.deb; do dpkg -x "$package" "$speech"; done
fi

${CARGO:-cargo} build --quiet --locked --release -p host-media --example quality
exec "$work/venv/bin/python" scripts/audio-quality.py --work "$work" --program "$target/release/examples/quality" --seeds "${SEEDS:-3}" "$@"
