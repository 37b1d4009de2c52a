#!/usr/bin/env bash
# A training step on one core ÷ its roof (its own matrix products and one exponential a score, each alone), and its rate ÷ that of
# LibTorch's nn::GRU with cross_entropy on the same batch, for the shapes of ml-100k and yoochoose. All in random interleaving in one run.
#
# usage: [CORE=N] tests/bench/step.sh [ROUNDS] [OPTION OF GOOGLE BENCHMARK…]
#
# Prints min, median and max over the rounds. Nothing decides a test here: machines are noisy, so look at the spread.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
rounds=${1:-5}
shift $(($# < 1 ? $# : 1))
program=$ROOT/build/ci/bench_step
[[ -x $program ]] || die 2 "there is no $program; build it: cmake --preset ci && cmake --build --preset ci --target bench_step"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
OMP_NUM_THREADS=1 taskset -c "${CORE:-0}" "$program" --benchmark_repetitions="$rounds" --benchmark_enable_random_interleaving=true \
  --benchmark_out="$work/step.json" --benchmark_out_format=json "$@" >"$work/log" 2>&1 || die 4 "$(tail -n 3 "$work/log")"
python3 - "$work/step.json" <<'PYTHON'
import collections, json, statistics, sys

rounds = collections.defaultdict(lambda: collections.defaultdict(dict))  # shape, repetition, part: milliseconds
rates = collections.defaultdict(list)
for run in json.load(open(sys.argv[1]))["benchmarks"]:
    if run["run_type"] != "iteration":
        continue
    shape, part = run["name"].split("/")[:2]
    rounds[shape][run["repetition_index"]][part] = run["real_time"]
    rates[shape, part].append(run["targets/s"])


def spread(values, digits):
    return f"{min(values):.{digits}f} | {statistics.median(values):.{digits}f} | {max(values):.{digits}f}"


print("| shape | | min | median | max |\n|---|---|---|---|---|")
for shape, repetitions in rounds.items():
    for part in dict.fromkeys(part for times in repetitions.values() for part in times):
        print(f"| {shape} | {part}, ms | {spread([times[part] for times in repetitions.values()], 1)} |")
    whole = [t for t in repetitions.values() if {"step", "products", "exp", "libtorch"} <= t.keys()]
    if whole:
        print(f"| {shape} | **step ÷ (products + exp)** | {spread([t['step'] / (t['products'] + t['exp']) for t in whole], 2)} |")
        print(f"| {shape} | **LibTorch ÷ step** | {spread([t['libtorch'] / t['step'] for t in whole], 2)} |")
    if (shape, "step") in rates:
        print(f"| {shape} | targets/s of the step | {spread(rates[shape, 'step'], 0)} |")
PYTHON
