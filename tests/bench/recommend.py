#!/usr/bin/env python3
"""Throughput and latency of `gru4rec recommend`: the table of docs/recommend.md.

usage: recommend.py GRU4REC CHECKPOINT [SESSIONS]

Made-up sessions of 1 to 50 items, best 20. Throughput: all lines are there at once; wall time, start of the program left out.
Latency: one line at a time, each sent when the former one was answered."""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time

program, checkpoint = sys.argv[1:3]
count = int(sys.argv[3]) if len(sys.argv) > 3 else 20000
random.seed(1)
with tempfile.TemporaryDirectory() as folder:
    export = [program, "export", "--checkpoint", checkpoint, "--format", "numpy", "--output", f"{folder}/items.npy"]
    subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
    items = json.load(open(f"{folder}/items.ids.json"))
lines = [json.dumps({"session": random.choices(items, k=random.randint(1, 50))}) + "\n" for _ in range(count)]


def seconds_of(text, *options):
    start = time.perf_counter()
    command = [program, "recommend", "--checkpoint", checkpoint, *options]
    subprocess.run(command, input=text, text=True, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


print(f"| {len(items)} items, {count} sessions | |\n|---|---|")
start = min(seconds_of(lines[0]) for _ in range(3))
print(f"| start, and one session | {1000 * start:.0f} ms |")
for batch in [1, 64, 4096]:
    some = lines if batch > 1 else lines[: count // 10]
    best = min(seconds_of("".join(some), "--eval_batch_size", str(batch)) for _ in range(3))
    print(f"| `--eval_batch_size {batch}` | {len(some) / (best - start):.0f} sessions/s |")

with subprocess.Popen([program, "recommend", "--checkpoint", checkpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
    times = []
    for line in lines[:2200]:
        sent = time.perf_counter()
        server.stdin.write(line)
        server.stdin.flush()
        server.stdout.readline()
        times.append(1000 * (time.perf_counter() - sent))
    server.stdin.close()
times = times[200:]
print(f"| a line alone, median | {statistics.median(times):.2f} ms |")
print(f"| a line alone, 99 of 100 within | {statistics.quantiles(times, n=100)[98]:.2f} ms |")
