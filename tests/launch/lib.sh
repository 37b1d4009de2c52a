# shellcheck shell=bash
# What the tests of launch/ and cluster/ share; sourced. They get where_am_i as $1.
set -uo pipefail
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GRU4REC=$1
MPIRUN=$SOURCE/launch/mpirun.sh
WORK=$(mktemp -d)
LOG=$WORK/log
trap 'rm -rf "$WORK"' EXIT

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  [[ ! -f $LOG ]] || cat "$LOG" >&2
  exit 1
}
expect_code() { [[ $1 == "$2" ]] || fail "exit code $2, wanted $1: $3"; }
expect_text() { grep -qF -- "$1" "$LOG" || fail "the output lacks '$1'"; }
# wait_for_text COUNT TEXT: until so many lines of the log have it
wait_for_text() {
  local i
  for ((i = 0; i < 600; ++i)); do
    [[ $(grep -cF -- "$2" "$LOG") -lt $1 ]] || return 0
    sleep 0.1
  done
  fail "'$2' did not appear $1 times in 60 s"
}
