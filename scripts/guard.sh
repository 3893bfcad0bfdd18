#!/usr/bin/env bash
# Small, stable measures against what was recorded (scripts/guard.py says which). Installs valgrind where it can, and fails
# where it cannot: a measure that was not taken must not look like one that was. RECORD=1 records anew; ONLY=tests takes
# one part: instructions, tests or memory.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

command -v python3 >/dev/null || { say "guard.sh: python3 compares the measures, and is not here"; exit 1; }
if ! command -v valgrind >/dev/null && [ "${ONLY:-instructions}" = instructions ]; then
    if ! command -v apt-get >/dev/null; then
        say "valgrind is missing, and this machine has no apt-get: install it and run this again, or take the rest with ONLY=tests."
        exit 1
    fi
    become=()
    [ "$(id -u)" -eq 0 ] || become=(sudo -n)
    # The package of the C library's symbols is what valgrind's replacements of its functions need on Debian.
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends valgrind libc6-dbg >&2 || {
        say "valgrind could not be installed: run 'apt-get update', then 'apt-get install valgrind libc6-dbg' as root, and this again."
        exit 1
    }
fi
arguments=()
[ -z "${RECORD:-}" ] || arguments+=(--record)
[ -z "${ONLY:-}" ] || arguments+=(--only "$ONLY")
exec python3 scripts/guard.py ${arguments[@]+"${arguments[@]}"} "$@"
