#!/bin/sh
# expect_exit.sh --exit CODE --seconds LIMIT [--expect TEXT]… -- COMMAND…
# Runs the command; succeeds if it ends within the limit with that code and its output contains every text.
code=0 seconds=60
output=$(mktemp) expected=$(mktemp)
trap 'rm -f "$output" "$expected"' EXIT
while [ $# -gt 0 ]; do
  case $1 in
    --exit) code=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --expect) printf '%s\n' "$2" >>"$expected"; shift 2 ;;
    --) shift; break ;;
    *) echo "expect_exit.sh: unknown argument $1" >&2; exit 2 ;;
  esac
done
timeout -k 5 "$seconds" "$@" >"$output" 2>&1
got=$?
cat "$output"
verdict=0
[ "$got" = 124 ] && echo "expect_exit.sh: not ended after $seconds s" && verdict=1
[ "$got" = "$code" ] || { echo "expect_exit.sh: exit code $got, wanted $code"; verdict=1; }
while IFS= read -r text; do
  grep -qF -e "$text" "$output" || { echo "expect_exit.sh: output lacks: $text"; verdict=1; }
done <"$expected"
exit $verdict
