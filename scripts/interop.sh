#!/usr/bin/env bash
# Gossip with a real node of js-libp2p on loopback. Installs Debian's Node.js if there is none, and js-libp2p with npm, as
# warp-blink/tests/interop/package-lock.json names it; fails where it cannot: a test that did not run must not look like one that passed.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        say "Node.js (node, npm) is missing, and this machine has no apt-get: install version 20.19 or newer, and run this again."
        exit 1
    fi
    become=()
    [ "$(id -u)" -eq 0 ] || become=(sudo -n)
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends nodejs npm >&2 || {
        say "Node.js could not be installed: run 'apt-get update', then 'apt-get install nodejs npm' as root, and run this again."
        exit 1
    }
fi
if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'; then
    say "Node.js is $(node --version) here, and js-libp2p needs 20.19 or newer: install a newer one (https://nodejs.org) and run this again."
    exit 1
fi

# Beside what cargo makes, so that no sources of others lie among ours; anew when the list of packages has changed.
from=warp-blink/tests/interop
to=${CARGO_TARGET_DIR:-target}/interop
mkdir -p "$to"
if ! cmp -s "$from/package-lock.json" "$to/installed.json"; then
    rm -f "$to/installed.json"
    cp "$from/package.json" "$from/package-lock.json" "$to/"
    # Nothing of a package runs but what the test imports.
    (cd "$to" && npm ci --ignore-scripts --no-audit --no-fund >&2) || {
        say "js-libp2p could not be installed with npm, which needs a registry at the first time. What npm said stands above."
        exit 1
    }
    cp "$from/package-lock.json" "$to/installed.json"
fi
cp "$from"/*.mjs "$to/"

# The whole workspace, so that this rebuilds nothing that the tests have built, and the other way round.
BLINK_INTEROP=$(cd "$to" && pwd) exec "${CARGO:-cargo}" test --workspace --locked --test node -- --ignored interop:: "$@"
