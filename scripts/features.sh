#!/usr/bin/env bash
# Each library crate must build without its default features, and warp-blink's pure rooms must then stand alone.
#
# One cargo command per crate: in one command cargo would unite the features of the shared dependencies, and a feature
# that a crate forgot to ask for would be hidden by its neighbour. They share the main target folder, where units with
# other features lie beside the ones that `make test` built and replace none of them.
set -euo pipefail
cd "$(dirname "$0")/.."

for crate in warp-blink host-media simple-webrtc; do
    printf -- '--- %s --no-default-features\n' "$crate"
    cargo check --quiet --locked -p "$crate" --no-default-features
done

# What the pure rooms are built from. The compiler cannot object to a crate that nobody has named yet.
tree=$(cargo tree --locked -p warp-blink --no-default-features -e normal --prefix none --format '{p}' | cut -d ' ' -f 1 | sort -u)
grep -qx warp-blink <<<"$tree" || { echo "cargo tree did not list warp-blink itself: this check sees nothing" >&2; exit 1; }
bad=$(grep -Ex 'tokio.*|webrtc.*|rtc(-.*)?|cpal|opus.*|rust-ipfs|connexa|libp2p.*|simple-webrtc|host-media|async-std|smol' <<<"$tree" || true)
if [ -n "$bad" ]; then
    printf 'warp-blink without default features must not depend on: %s\n' "$(tr '\n' ' ' <<<"$bad")" >&2
    exit 1
fi
