#!/usr/bin/env bash
# The rate of one process whose batches a second thread makes ahead against that of one that makes them itself, in alternation.
#
# usage: tests/bench/batches_ahead.sh CONFIG [PAIRS] [OPTION…]     after `gru4rec ingest` with the same configuration
#
# Wants two cores with nothing else on them. Prints a line a pair, with the milliseconds of a step in which training waits for
# its batch, and the median ratio.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
[[ $# -ge 1 ]] || die 2 "which configuration? usage: tests/bench/batches_ahead.sh CONFIG [PAIRS] [OPTION…]"
config=$1 pairs=${2:-5}
shift $(($# < 2 ? $# : 2))
program=$(find_program)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1

run() { # WHEN: targets a second, and milliseconds of a step that `batches` takes, of the epochs after the first
  rm -rf "$work/$1"
  "$program" train --config "$config" --num_threads 1 --epochs 8 --eval_step 0 --show_progress false --batches_ahead "$1" "${@:2}" \
    --run_dir "$work/$1" >"$work/$1.log" 2>&1 || die $? "$(tail -3 "$work/$1.log")"
  python3 -c '
import json, sys
epochs = [json.loads(line) for line in open(sys.argv[1])]
epochs = [epoch for epoch in epochs if "time" in epoch]
steps = epochs[-1]["step"] - epochs[0]["step"]
epochs = epochs[1:]
print(sum(e["targets_per_second"] for e in epochs) / len(epochs), 1e3 * sum(e["time"]["batches"] for e in epochs) / steps)' "$work/$1/metrics.jsonl"
}

for ((i = 1; i <= pairs; ++i)); do
  read -r never waits_never < <(run never "$@")
  read -r always waits_always < <(run always "$@")
  printf '%s %s\n' "$never" "$always" >>"$work/rates"
  printf 'pair %d: by itself %.0f targets/s (batches %.3f ms a step), ahead %.0f (%.3f)\n' "$i" "$never" "$waits_never" "$always" "$waits_always"
done
python3 -c '
import statistics, sys
r = sorted(float(b) / float(a) for a, b in (line.split() for line in open(sys.argv[1])))
print(f"ahead / by itself: min {r[0]:.3f}  median {statistics.median(r):.3f}  max {r[-1]:.3f}")' "$work/rates"
