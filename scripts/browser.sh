#!/usr/bin/env bash
# Calls with real browsers, without a window, on loopback. Installs Debian's packages where it can, and fails where it cannot: a
# test that did not run must not look like one that passed.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null || ! command -v firefox-esr >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        printf '%s\n' "chromium or firefox-esr is missing, and this machine has no apt-get: install both, so that they are" \
            "found by these names, and run this again." >&2
        exit 1
    fi
    become=()
    [ "$(id -u)" -eq 0 ] || become=(sudo -n)
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends chromium firefox-esr >&2 || {
        printf '%s\n' "The browsers could not be installed: run 'apt-get update', then 'apt-get install chromium firefox-esr'" \
            "as root, and run this again. (Ubuntu has both as snaps only: install those, and see that they are found as" \
            "chromium and firefox-esr.)" >&2
        exit 1
    }
fi
# The whole workspace, so that this rebuilds nothing that the tests have built, and the other way round. One at a time: a browser
# that starts takes both cores of a small machine.
exec "${CARGO:-cargo}" test --workspace --locked --test browsers -- --ignored --nocapture --test-threads=1
