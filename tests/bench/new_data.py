#!/usr/bin/env python3
"""What a day of new data is worth: the old model, one that went on from it, and one trained on all from the beginning.

usage: tests/bench/new_data.py PROGRAM DATA [--seeds 1 2 3] [--hold_back DAYS] [--update OPTION…]

DATA holds rsc15_100k.train.tsv.gz and rsc15_100k.test.tsv.gz. The training file without its last day is ingested, with the test
file (the newest day) as its test part, and trained on; the last day is appended; the old model goes on with --init_from. All
three are tested on the newest day, with the same targets. --hold_back 1 leaves the newest day away and does the same a day
earlier, which is what the options of the update were chosen by. Prints a table for docs/new-data.md.
"""
import argparse
import collections
import gzip
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DAY = 86400
UPDATE = ["--epochs", "4", "--learning_rate", "0.008"]


def sessions_of(path):
    sessions = collections.defaultdict(list)
    with gzip.open(path, "rt") as file:
        header = file.readline()
        for line in file:
            sessions[line.split("\t", 1)[0]].append(line)
    return header, list(sessions.values())


def end_of(session):
    return max(int(float(line.rstrip("\n").split("\t")[2])) for line in session)


def days_of(folder, hold_back):
    """The header, and the sessions up to the last day but two, of the last but one, and of the newest."""
    header, parts = sessions_of(folder / "rsc15_100k.train.tsv.gz")
    newest = sessions_of(folder / "rsc15_100k.test.tsv.gz")[1]
    for _ in range(hold_back + 1):
        last = max(map(end_of, parts)) - DAY
        before, day = [s for s in parts if end_of(s) <= last], [s for s in parts if end_of(s) > last]
        result, parts, newest = (header, before, day, newest), before, day
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--hold_back", type=int, default=0)
    parser.add_argument("--update", nargs=argparse.REMAINDER, default=UPDATE)
    options = parser.parse_args()
    program = options.program.resolve()
    header, *parts = days_of(options.data, options.hold_back)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for name, sessions in zip(("old", "day", "newest"), parts):
            (work / f"{name}.tsv").write_text(header + "".join(line for session in sessions for line in session))
            print(f"{name}: {len(sessions)} sessions, {sum(map(len, sessions))} events", file=sys.stderr)

        def gru4rec(*arguments):
            done = subprocess.run([program, *arguments], cwd=work, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{' '.join(map(str, arguments))}\n{done.stderr}")

        def command(name, store, *more):
            gru4rec(name, "--config", ROOT / "configs/rsc15-100k.yaml", "--data_path", work, "--store", store,
                    "--eval_args", "{split: {files: given}}", "--eval_step", "0", "--show_progress", "false", *more)

        def trained(run, store, seed, *more):
            command("train", store, "--run_dir", run, "--seed", str(seed), *more)
            result = json.loads((work / run / "result.json").read_text())
            return result["test"]["recall@20"], result["test"]["mrr@20"], result["train_seconds"]

        command("ingest", "before", "--train_file", "old.tsv", "--test_file", "newest.tsv")
        subprocess.run(["cp", "-r", "before", "after"], cwd=work, check=True)
        command("ingest", "after", "--append", "--train_file", "day.tsv", "--test_file", "")
        rows = collections.defaultdict(list)
        for seed in options.seeds:
            rows["old model"].append(trained(f"old{seed}", "before", seed))
            rows["gone on from it"].append(
                trained(f"update{seed}", "after", seed, "--init_from", f"old{seed}", *options.update))
            rows["from scratch on all"].append(trained(f"scratch{seed}", "after", seed))
    print("| model | Recall@20 | MRR@20 | training |\n|---|---|---|---|")
    for name, runs in rows.items():
        recall, mrr, seconds = zip(*runs)
        cells = [f"{statistics.mean(values):.4f} ({min(values):.4f} … {max(values):.4f})" for values in (recall, mrr)]
        print(f"| {name} | {cells[0]} | {cells[1]} | {statistics.mean(seconds):.1f} s |")


if __name__ == "__main__":
    main()
