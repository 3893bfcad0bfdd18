#!/usr/bin/env bash
# Does a fresh clone of what is committed pass `make test` with nothing built before? Takes as long as a cold build.
# fresh-check.sh [make target...]    (default: test)
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "$(git status --porcelain)" ]; then
    echo "note: uncommitted changes are not part of this check" >&2
fi
git clone --quiet --no-hardlinks . "$folder/clone"
cd "$folder/clone"
# The caller's build settings would make it another machine's check.
unset CARGO_BUILD_TARGET RUSTFLAGS RUSTDOCFLAGS RUSTC_WRAPPER CARGO_ENCODED_RUSTFLAGS
export CARGO_TARGET_DIR="$folder/target"
SECONDS=0
make "${@:-test}"
if [ -n "$(git status --porcelain)" ]; then
    git status --short >&2
    echo "the run left files behind, or changed tracked ones (see above)" >&2
    exit 1
fi
printf 'fresh clone: make %s passed in %d s\n' "${*:-test}" "$SECONDS"
