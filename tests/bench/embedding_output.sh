#!/usr/bin/env bash
# The model that predicts item embeddings (loss_type cosine_embedding) beside the one with a softmax over the catalogue (CE): trained
# parameters, rate of training, time of evaluation. One epoch each on one core, in alternation, from one store.
#
# usage: [CORE=N] tests/bench/embedding_output.sh CONFIG [ROUNDS] [OPTION…]     after `gru4rec ingest` with the same configuration
#
# The item table of the former is that of a first run with CE, which is not timed. Prints a line a round and the spread of each ratio.
# Nothing decides a test here: machines are noisy, so look at the spread.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
[[ $# -ge 1 ]] || die 2 "which configuration? usage: tests/bench/embedding_output.sh CONFIG [ROUNDS] [OPTION…]"
config=$1 rounds=${2:-3}
shift $(($# < 2 ? $# : 2))
program=$(find_program)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 NO_COLOR=1
one_core=(taskset -c "${CORE:-0}")
softmax=(--config "$config" --replicas 1 --show_progress false --log_level info "$@" --epochs 1 --eval_step 0 --loss_type CE)
embedding=("${softmax[@]}" --loss_type cosine_embedding --score cosine --learn_score_scale false
  --freeze_item_embeddings true --item_embeddings_from "$work/items")

# measure NAME OPTION…: one epoch into $work/NAME, then one evaluation on test
measure() {
  local name=$1
  shift
  rm -rf "${work:?}/$name"
  "${one_core[@]}" "$program" train "$@" --run_dir "$work/$name" >"$work/$name.log" 2>&1 || die 4 "$(tail -n 3 "$work/$name.log")"
  "${one_core[@]}" "$program" evaluate --checkpoint "$work/$name" >"$work/$name.eval" 2>&1 || die 4 "$(tail -n 3 "$work/$name.eval")"
}
rate() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["events_per_second"])' "$work/$1/result.json"; }
microseconds() { sed -nE 's/.*evaluated ([0-9]+) targets in ([0-9.]+) s.*/\1 \2/p' "$work/$1.eval" | awk '{ print $2 / $1 * 1e6 }'; }
parameters() { sed -nE 's/.*parameters: (.*)/\1/p' "$work/$1.log"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'; }
spread() { # spread NAME RATIO…
  printf '%s\n' "${@:2}" | python3 -c '
import statistics, sys
r = sorted(float(line) for line in sys.stdin)
print(f"{sys.argv[1]}: min {r[0]:.3f}  median {statistics.median(r):.3f}  max {r[-1]:.3f}")' "$1"
}

measure items "${softmax[@]}"
training=() evaluation=()
for ((i = 1; i <= rounds; ++i)); do
  measure softmax "${softmax[@]}"
  measure embedding "${embedding[@]}"
  training+=("$(ratio "$(rate embedding)" "$(rate softmax)")")
  evaluation+=("$(ratio "$(microseconds embedding)" "$(microseconds softmax)")")
  printf 'round %d: softmax %.0f targets/s, %.1f us a target of test; embedding %.0f targets/s, %.1f us\n' "$i" \
    "$(rate softmax)" "$(microseconds softmax)" "$(rate embedding)" "$(microseconds embedding)"
done
printf 'parameters: softmax %s; embedding %s\n' "$(parameters softmax)" "$(parameters embedding)"
printf 'softmax   %s\nembedding %s\n' "$(tail -n 1 "$work/softmax.eval")" "$(tail -n 1 "$work/embedding.eval")"
spread "rate of training, embedding over softmax" "${training[@]}"
spread "time of evaluation, embedding over softmax" "${evaluation[@]}"
