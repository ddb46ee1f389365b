#!/bin/sh
# Runs the tests and ends with "N passed, N failed" alone on a line. Arguments go to `bun test`.
set -u
cd "$(dirname "$0")/.."

# The vectors recorded from the original may lie beside the repository.
if [ -z "${WALB_VECTORS-}" ] && [ -d ../shared/vectors ]; then
  WALB_VECTORS=$(cd ../shared/vectors && pwd)
  export WALB_VECTORS
fi

# Tests that cannot run here are skipped; say why, once.
say() { echo "scripts/test.sh: $*" >&2; }
[ -n "${WALB_VECTORS-}" ] || say "WALB_VECTORS is not set: tests against files of the original are skipped"
[ "$(id -u)" = 0 ] || say "not root: tests that mount file systems or hide tools are skipped"

log=$(mktemp "${TMPDIR:-/tmp}/walb-test-log.XXXXXX") || exit 1
trap 'rm -f "$log"' EXIT

{ node_modules/.bin/bun test --parallel --timeout 120000 "$@" 2>&1; echo "$?" >"$log.status"; } | tee "$log"
status=$(cat "$log.status")
rm -f "$log.status"

# The summary of bun: lines " N pass" and " N fail" at the end.
count() { sed 's/\x1b\[[0-9;]*m//g' "$log" | sed -n "s/^ *\([0-9][0-9]*\) $1\$/\1/p" | tail -n 1; }
passed=$(count pass)
failed=$(count fail)
if [ "${passed:-0}" -eq 0 ] && [ "${failed:-0}" -eq 0 ]; then
  say "no test ran"
  [ "$status" -ne 0 ] || status=1
fi
# A run that crashed, or met an error outside of a test, must not look like a success.
if [ "$status" -ne 0 ] && [ "${failed:-0}" -eq 0 ]; then failed=1; fi
if [ "${failed:-0}" -ne 0 ] && [ "$status" -eq 0 ]; then status=1; fi
echo "${passed:-0} passed, ${failed:-0} failed"
exit "$status"
