#!/usr/bin/env bash
# Two ranks on two test hosts with overlap and without, in alternation, at the full speed of the link and throttled.
#
# usage: tests/bench/overlap.sh CONFIG [PAIRS] [OPTION…]     as root, after `gru4rec ingest` with the same configuration
#
# Prints a line a pair and the median ratio for each rate. RATES="1gbit 100mbit" in units of tc; `full` is none. Nothing decides a
# test here: machines are noisy, so look at the spread.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
[[ $# -ge 1 ]] || die 2 "which configuration? usage: tests/bench/overlap.sh CONFIG [PAIRS] [OPTION…]"
config=$1 pairs=${2:-3}
shift $(($# < 2 ? $# : 2))
GRU4REC=$(find_program)
export GRU4REC OMP_NUM_THREADS=1 TESTHOSTS=bench$$x
hosts=$ROOT/cluster/testhosts.sh
work=$(mktemp -d)
trap '"$hosts" down; rm -rf "$work"' EXIT
"$hosts" up 2
"$hosts" hostfile >"$work/hosts"
options=(--config "$config" --replicas 2 --epochs 1 --eval_step 0 --adapt_fraction 0 --show_progress false "$@")

train() { # train OVERLAP: prints the events a second
  rm -rf "$work/run"
  "$hosts" mpirun -np 2 --hostfile "$work/hosts" -- train "${options[@]}" --overlap "$1" --run_dir "$work/run" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["events_per_second"])' "$work/run/result.json"
}

for rate in ${RATES:-full 1gbit 100mbit}; do
  "$hosts" link "${TESTHOSTS}2" up
  [[ $rate == full ]] || "$hosts" link "${TESTHOSTS}2" slow "$rate"
  ratios=()
  for ((i = 1; i <= pairs; ++i)); do
    off=$(train false) on=$(train true)
    ratios+=("$(python3 -c 'import sys; print(float(sys.argv[1]) / float(sys.argv[2]))' "$off" "$on")")
    printf '%s, pair %d: off %.0f events/s, on %.0f events/s, step time on ÷ off %.3f\n' "$rate" "$i" "$off" "$on" "${ratios[-1]}"
  done
  printf '%s\n' "${ratios[@]}" | python3 -c '
import statistics, sys
r = sorted(float(line) for line in sys.stdin)
print(f"{sys.argv[1]}: step time on ÷ off: min {r[0]:.3f}  median {statistics.median(r):.3f}  max {r[-1]:.3f}")' "$rate"
done
