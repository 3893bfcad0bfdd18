#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs the command under a headline, and says which step it was when it fails.
set -uo pipefail
name=$1
shift
printf '\n==> %s\n' "$name"
SECONDS=0
"$@"
status=$?
if [ $status -ne 0 ]; then
    printf '\nFAILED: %s (exit code %d after %d s)\n    %s\n' "$name" "$status" "$SECONDS" "$*" >&2
    exit $status
fi
printf '    %s: done in %d s\n' "$name" "$SECONDS"
