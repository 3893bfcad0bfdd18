#!/usr/bin/env bash
# Relayed paths through a real coturn on loopback. Installs Debian's package where it can, and fails where it cannot: a test
# that did not run must not look like one that passed.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v turnserver >/dev/null || ! command -v openssl >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        printf '%s\n' "coturn and openssl are missing, and this machine has no apt-get: install both and run this again." >&2
        exit 1
    fi
    become=()
    [ "$(id -u)" -eq 0 ] || become=(sudo -n)
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q coturn openssl >&2 || {
        printf '%s\n' "coturn could not be installed: run 'apt-get install coturn openssl' as root and run this again." >&2
        exit 1
    }
fi
# The whole workspace, so that this rebuilds nothing that the tests have built, and the other way round.
exec "${CARGO:-cargo}" test --workspace --locked --test coturn -- --ignored --nocapture
