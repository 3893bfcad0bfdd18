#!/usr/bin/env bash
# Calls of the real `blink` command through the lab (tests/lab): hosts in network namespaces, links that fail, a real coturn.
# Needs root, Linux and TUN devices, and fails where it does not have them: a test that did not run must not look like one
# that passed. BLINK_BIN tests another program than the one of this tree; arguments are those of the tests (a name, say).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

if [ "$(id -u)" -ne 0 ]; then
    say "The lab makes network namespaces and devices, which only root may. Run this as root:"
    say "    sudo env \"PATH=\$PATH\" make test-lab"
    exit 1
fi
if [ ! -c /dev/net/tun ]; then
    say "This kernel has no TUN devices (/dev/net/tun): try 'modprobe tun'. A container has to be given the device."
    exit 1
fi

# Debian's packages; chrt and setpriv are in util-linux, which every Debian has.
missing=()
command -v ip >/dev/null || missing+=(iproute2)
command -v nft >/dev/null || missing+=(nftables)
command -v sysctl >/dev/null || missing+=(procps)
command -v turnserver >/dev/null || missing+=(coturn)
command -v openssl >/dev/null || missing+=(openssl)
command -v dnsmasq >/dev/null || missing+=(dnsmasq-base)
command -v miniupnpd >/dev/null || missing+=(miniupnpd-nftables)
command -v setpriv >/dev/null || missing+=(util-linux)
if [ ${#missing[@]} -ne 0 ]; then
    if ! command -v apt-get >/dev/null; then
        say "${missing[*]} (Debian's names): missing, and this machine has no apt-get. Install them and run this again."
        exit 1
    fi
    env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 || {
        say "${missing[*]} could not be installed: run 'apt-get update', then 'apt-get install ${missing[*]}' and this again."
        exit 1
    }
fi

# The whole workspace, so that this rebuilds nothing that the tests have built, and the other way round.
cargo=${CARGO:-cargo}
tests=(--workspace --locked --test lab_net --test lab_calls --test lab_relays --test lab_nearby --test lab_reach)
if [ -z "${BLINK_BIN:-}" ]; then
    "$cargo" build "${tests[@]}" --bin blink
else
    # The lab alone, for whoever has built `blink` elsewhere.
    tests=(-p blink-lab --locked --test lab_net --test lab_calls --test lab_relays --test lab_nearby --test lab_reach)
fi

table=$(mktemp)
reach=$(mktemp)
trap 'rm -f "$table" "$reach"' EXIT
status=0
# One at a time: a call hears the processor that another one takes.
env BLINK_LAB_TABLE="$table" BLINK_LAB_REACH="$reach" "$cargo" test "${tests[@]}" --no-fail-fast -- --ignored --test-threads=1 "$@" || status=$?
if [ -s "$table" ]; then
    printf '\nTimes in seconds until audio (signals) came back; delays mouth to ear in milliseconds.\n'
    column -t -s $'\t' "$table"
fi
if [ -s "$reach" ]; then
    printf '\nFound by key and bootstrap node alone: times in seconds.\n'
    column -t -s $'\t' "$reach"
fi
exit $status
