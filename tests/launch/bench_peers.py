#!/usr/bin/env python3
"""Stands for the Python of RecBole in a test of run.py: speaks as recbole_epochs.py and the official GRU4Rec do, and trains nothing.

    bench_peers.py -W ignore recbole_epochs.py SEED EPOCHS
    bench_peers.py -W ignore CODE/run.py SESSIONS -d cpu -ps PARAMETERS
"""
import json
import pathlib
import sys
import time


def work(seconds):
    """Time of the processor, which is what is measured."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def recbole():
    def report(**values):
        print(json.dumps({"clock": time.monotonic(), "cpu": time.process_time(), **values}), flush=True)

    report(targets=97171)
    for epoch, line in enumerate(sys.stdin, 1):
        assert line == "go\n", line
        work(0.1)
        report(epoch=epoch, valid={"mrr@10": 0.01}, train_seconds=0.1, train_cpu=0.1)


def official(sessions, *options):
    assert options[:3] == ("-d", "cpu", "-ps") and len(options) == 4, options
    assert pathlib.Path(sessions).read_text().startswith("SessionId\tItemId\tTime\n"), sessions
    for epoch in range(int(dict(pair.split("=") for pair in options[3].split(","))["n_epochs"])):
        work(0.1)
        print(f"Epoch{epoch + 1} --> loss: 7.0 \t(0.10s) \t[1000 mb/s | 64000 e/s]", flush=True)


assert sys.argv[1:3] == ["-W", "ignore"], sys.argv
script, arguments = pathlib.Path(sys.argv[3]).name, sys.argv[4:]
if script == "recbole_epochs.py":
    recbole()
else:
    assert script == "run.py", script
    official(*arguments)
