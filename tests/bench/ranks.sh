#!/usr/bin/env bash
# The rate of two ranks on two cores against the summed rate of two independent one-rank runs side by side, in alternation.
#
# usage: tests/bench/ranks.sh CONFIG [PAIRS] [--targets_a_rank N] [OPTION…]     after `gru4rec ingest` with the same configuration
#
# All train two replicas, which the ranks share and a run of one rank has alone: the same numbers three times, and half of the
# targets of a step for a rank. With --targets_a_rank every rank takes N targets a step instead, those of two ranks and those that
# run by themselves: two ranks then make one update where two runs make two.
#
# Prints a line a pair and the median ratios. A step of two ranks ends when the slower one does, two runs do not wait: where others
# slow one of the cores, two ranks cannot do better than twice the slower run. Nothing decides a test here: machines are noisy, so
# look at the spread.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
[[ $# -ge 1 ]] || die 2 "which configuration? usage: tests/bench/ranks.sh CONFIG [PAIRS] [OPTION…]"
config=$1 pairs=${2:-3}
shift $(($# < 2 ? $# : 2))
program=$(find_program)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
of_two=(--replicas 2) of_one=(--replicas 2)
if [[ ${1:-} == --targets_a_rank ]]; then
  [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die 2 "--targets_a_rank: got '${2:-}', wanted a number of targets"
  of_two=(--replicas 2 --train_batch_size $((2 * $2))) of_one=(--replicas 1 --train_batch_size "$2")
  shift 2
fi
options=(--config "$config" --epochs 8 --eval_step 0 --batches_ahead never --show_progress false "$@")

rate() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["events_per_second"])' "$1/result.json"; }
together() { # both ranks of one run
  rm -rf "$work/two"
  "$ROOT/launch/mpirun.sh" -np 2 -- train "${options[@]}" "${of_two[@]}" --run_dir "$work/two" >"$work/two.log" 2>&1
  rate "$work/two"
}
apart() { # two runs of one rank, each on a core: their rates together, and twice the slower one
  rm -rf "$work/a" "$work/b"
  taskset -c 0 "$program" train "${options[@]}" "${of_one[@]}" --run_dir "$work/a" >"$work/a.log" 2>&1 &
  local first=$!
  taskset -c 1 "$program" train "${options[@]}" "${of_one[@]}" --run_dir "$work/b" >"$work/b.log" 2>&1
  wait "$first"
  python3 -c 'import sys; a, b = map(float, sys.argv[1:]); print(a + b, 2 * min(a, b))' "$(rate "$work/a")" "$(rate "$work/b")"
}

ratios=() bounds=()
ratio() { python3 -c 'import sys; print(float(sys.argv[1]) / float(sys.argv[2]))' "$1" "$2"; }
spread() { # spread NAME NUMBER…
  python3 -c '
import statistics, sys
r = sorted(map(float, sys.argv[2:]))
print(f"{sys.argv[1]}: min {r[0]:.3f}  median {statistics.median(r):.3f}  max {r[-1]:.3f}")' "$@"
}
for ((i = 1; i <= pairs; ++i)); do
  two=$(together)
  read -r sum twice <<<"$(apart)"
  ratios+=("$(ratio "$two" "$sum")") bounds+=("$(ratio "$twice" "$sum")")
  printf 'pair %d: two ranks %.0f events/s, two runs %.0f events/s together, twice the slower %.0f, ratio %.3f\n' "$i" "$two" "$sum" \
    "$twice" "${ratios[-1]}"
done
spread ratio "${ratios[@]}"
spread "twice the slower run ÷ two runs" "${bounds[@]}"
