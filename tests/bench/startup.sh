#!/usr/bin/env bash
# Seconds from the start of `gru4rec train` to the end of its second step, on one core: those are all of the epoch that
# `recent_fraction 0.02` leaves of ml-100k.
#
# usage: [CORE=N] tests/bench/startup.sh [ROUNDS]     after launch/fetch-ml-100k.sh; ingests into a folder of its own
#
# By the clock, and by the processor time used until then; beside it those of `gru4rec --version`, which only loads the libraries.
# Nothing decides a test here: machines are noisy, so look at the spread.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
rounds=${1:-7}
program=$(find_program)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 NO_COLOR=1
cd "$ROOT"
"$program" ingest --config configs/ml-100k.yaml --store "$work/store" --show_progress false >"$work/log" 2>&1 || die 4 "$(tail -n 3 "$work/log")"
taskset -c "${CORE:-0}" python3 - "$rounds" "$work" "$program" <<'PYTHON'
import os, shutil, statistics, subprocess, sys, time

rounds, work, program = sys.argv[1:]
train = [program, "train", "--config", "configs/ml-100k.yaml", "--store", work + "/store", "--run_dir", work + "/run", "--epochs", "1",
         "--eval_step", "0", "--recent_fraction", "0.02", "--show_progress", "false", "--log_level", "info"]


def processor_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def two_steps():
    shutil.rmtree(work + "/run", ignore_errors=True)
    start, reached = time.monotonic(), None
    process = subprocess.Popen(train, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("epoch 1 "):
            reached = time.monotonic() - start, processor_seconds(process.pid)
    assert process.wait() == 0 and reached, line
    return reached


def loading():
    before, start = os.times(), time.monotonic()
    subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return time.monotonic() - start, after.children_user - before.children_user + after.children_system - before.children_system


print("| until | seconds | min | median | max |\n|---|---|---|---|---|")
for name, measure in (("libraries loaded", loading), ("two steps done", two_steps)):
    for kind, values in zip(("by the clock", "of the processor"), zip(*(measure() for _ in range(int(rounds))))):
        print(f"| {name} | {kind} | {min(values):.2f} | {statistics.median(values):.2f} | {max(values):.2f} |", flush=True)
PYTHON
