#!/usr/bin/env bash
# Licences, bans and sources of the dependency tree (deny.toml). Uses cargo-deny from PATH, or builds it once into
# target/tools: about a minute and a half on two cores. The advisory database is not asked: that needs a download each time.
# deny.sh build: no more than that, for who wants to know what the check itself takes.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
tools="${CARGO_TARGET_DIR:-target}/tools"
if command -v cargo-deny >/dev/null; then
    deny=cargo-deny
else
    deny="$tools/bin/cargo-deny"
    if ! "$deny" --version 2>/dev/null | grep -q " $version\$"; then
        echo "Building cargo-deny $version into $tools, once"
        # Its release profile asks for link-time optimisation, which only costs time here.
        env CARGO_TARGET_DIR="$tools/build" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
            CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 \
            cargo install --quiet --locked --version "$version" --root "$tools" cargo-deny
        rm -rf "$tools/build"
    fi
fi
[ "${1:-}" != build ] || exit 0
"$deny" --locked check --hide-inclusion-graph licenses bans sources
