#!/usr/bin/env bash
# Calls of the real `blink` command through the lab (tests/lab): hosts in network namespaces, links that fail, a real coturn.
# Needs root, Linux and TUN devices, and fails where it does not have them: a test that did not run must not look like one
# that passed. BLINK_BIN tests another program than the one of this tree; arguments are those of the tests (a name, say).
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/ready.sh
lab_ready test-lab nft:nftables sysctl:procps turnserver:coturn openssl:openssl dnsmasq:dnsmasq-base miniupnpd:miniupnpd-nftables

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
