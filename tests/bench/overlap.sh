#!/usr/bin/env bash
# Two ranks on two test hosts with overlap and without, in alternation, at the full speed of the link and throttled.
#
# usage: tests/bench/overlap.sh CONFIG [PAIRS] [OPTION…]     as root, after `gru4rec ingest` with the same configuration
#
# Prints a line a pair, in ms a step (without what is done once an epoch), and for each rate the medians: of on ÷ off, and of on ÷
# the longer one of computation (batches, forward, backward, optimizer) and sum of the run without overlap. RATES="1gbit 100mbit" in
# units of tc; `full` is none. APART=yes: what computes shares core 0, and the second threads share core 1, as where each rank has a
# core to spare; otherwise all share all cores. Nothing decides a test here: machines are noisy, so look at the spread.
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
options=(--config "$config" --replicas 2 --epochs 1 --eval_step 0 --batches_ahead never --adapt_fraction 0 --show_progress false "$@")

# Puts all threads of the ranks on core 0, but for the second threads, which are the last to begin, on core 1.
keep_apart() { # keep_apart OVERLAP
  local ranks=() rank threads
  while [[ ${#ranks[@]} -lt 2 ]]; do
    sleep 0.1
    mapfile -t ranks < <(pgrep -f "^$GRU4REC train")
  done
  [[ $1 == false ]] || until grep -q "overlap: a second thread" "$work/log"; do sleep 0.05; done
  for rank in "${ranks[@]}"; do
    taskset -apc 0 "$rank"
    mapfile -t threads < <(ls "/proc/$rank/task" | sort -n)
    [[ $1 == false ]] || taskset -pc 1 "${threads[-1]}"
  done >"$work/cores" 2>&1
}

# Of a run that ended before it had begun.
end_keeping_apart() { [[ -z ${APART:-} ]] || kill "$!" 2>/dev/null || true; }

train() { # train OVERLAP: prints ms a step of waiting for others, computation, sum
  rm -rf "$work/run"
  : >"$work/log"
  [[ -z ${APART:-} ]] || { keep_apart "$1" & }
  "$hosts" mpirun -np 2 --hostfile "$work/hosts" -- train "${options[@]}" --overlap "$1" --run_dir "$work/run" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; end_keeping_apart; exit 1; }
  end_keeping_apart
  python3 -c '
import json, sys
epochs = [json.loads(line) for line in open(sys.argv[1])]
ms = {name: sum(1e3 * epoch["time"][name] for epoch in epochs) / epochs[-1]["step"] for name in epochs[0]["time"]}
print(ms["agreement"], ms["batches"] + ms["compute"] + ms["optimizer"], ms["sum"])' "$work/run/metrics.jsonl"
}

for rate in ${RATES:-full 1gbit 100mbit}; do
  "$hosts" link "${TESTHOSTS}2" up
  [[ $rate == full ]] || "$hosts" link "${TESTHOSTS}2" slow "$rate"
  for ((i = 1; i <= pairs; ++i)); do
    off=$(train false)
    on=$(train true)
    echo "$off $on"
  done | python3 -c '
import statistics, sys
rate = sys.argv[1]
ratios = {"on ÷ off": [], "on ÷ max(computation, sum)": []}
for pair, line in enumerate(sys.stdin, 1):
    numbers = [float(word) for word in line.split()]
    (wait, compute, sums), on = numbers[:3], sum(numbers[3:])
    off = wait + compute + sums
    for ratio, to in zip(ratios.values(), (off, max(compute, sums))):
        ratio.append(on / to)
    print(f"{rate}, pair {pair}: off {off:.1f} ms (waiting {wait:.1f}, computation {compute:.1f}, sum {sums:.1f}), on {on:.1f} ms "
          f"(computation {numbers[4]:.1f}, waiting and sum after it {numbers[3] + numbers[5]:.1f}), on ÷ off {on / off:.3f}", flush=True)
for name, ratio in ratios.items():
    print(f"{rate}: {name}: min {min(ratio):.3f}  median {statistics.median(ratio):.3f}  max {max(ratio):.3f}")' "$rate"
done
