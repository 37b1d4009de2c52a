#!/usr/bin/env bash
# Events that `gru4rec ingest` takes a second on one core, from made-up events as CSV, TSV and Parquet with ids as integers and as text.
#
# usage: [CORE=N] [FORMER=PROGRAM] tests/bench/ingest.sh [ROUNDS] [EVENTS] [OPTION…]     3 rounds of 5,000,000 events by default
#
# From the start of the process to its end, the store durable: by the clock, and by the processor time it used, which other load on the
# core lengthens less. FORMER is another gru4rec, run in alternation; stores have to be equal. Nothing decides a test here: look at the spread.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
rounds=${1:-3} events=${2:-5000000}
shift $(($# < 2 ? $# : 2))
program=$(find_program)
maker=$ROOT/build/ci/event_files
[[ -x $maker ]] || die 2 "there is no $maker; build it: cmake --preset ci && cmake --build --preset ci --target event_files"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$maker" "$work" "$events"
taskset -c "${CORE:-0}" python3 - "$rounds" "$events" "$work" "$program" "${FORMER:-}" "$@" <<'PYTHON'
import os, re, statistics, subprocess, sys, time

rounds, events, work, program, former, *options = sys.argv[1:]
common = ["ingest", "--data_path", work, "--store", work + "/store", "--SESSION_ID_FIELD", "session_id", "--TIME_FIELD", "timestamp",
          "--eval_args", "{split: {TS: {test: 0.05, valid: 0.05}}}", "--show_progress", "false", *options]


def ingest(gru4rec, name):
    """Seconds by the clock and of the processor, and the digest of the store."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run([gru4rec, *common, "--train_file", name], capture_output=True, text=True)
    clock, after = time.monotonic() - start, os.times()
    if done.returncode != 0:
        sys.exit(done.stderr)
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return clock, used, re.search(r"digest (\w+)", done.stdout)[1]


def spread(values, form):
    return " | ".join(format(value, form) for value in (min(values), statistics.median(values), max(values)))


print("| file | | min | median | max |\n|---|---|---|---|---|")
for name in ("events.csv", "events.tsv", "events.parquet", "text.parquet"):
    clocks, used, ratios = [], [], []
    for _ in range(int(rounds)):
        clock, seconds, digest = ingest(program, name)
        clocks.append(int(events) / clock / 1e6)
        used.append(int(events) / seconds / 1e6)
        if former:
            _, former_seconds, former_digest = ingest(former, name)
            assert digest == former_digest, f"{name}: digest {digest}, of the former program {former_digest}"
            ratios.append(former_seconds / seconds)
    print(f"| {name} | million events/s of processor time | {spread(used, '.2f')} |")
    print(f"| | million events/s by the clock | {spread(clocks, '.2f')} |")
    if former:
        print(f"| | processor time, former ÷ this | {spread(ratios, '.2f')} |", flush=True)
PYTHON
