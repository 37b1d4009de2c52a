"""Trains the rows of launch/results.tsv over several seeds and writes their tables and plots; see launch/results.sh --help."""

import argparse
import collections
import concurrent.futures
import functools
import json
import os
import pathlib
import queue
import re
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
METRICS = ("recall@20", "mrr@20")
Row = collections.namedtuple("Row", "table name config options")


def read_rows(path):
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 4:
            sys.exit(f"{path}:{number}: got {len(fields)} fields, wanted table, row, configuration, options (separated by tabs)")
        rows.append(Row(*fields))
    return rows


def needs(row):
    """Names of the rows whose runs this one begins with."""
    return re.findall(r"{(.+?)}", row.options)


def adapts(row):
    """Whether its command has a stage of adaptation, whose result is then the row's."""
    fractions = re.findall(r"^adapt_fraction: *(\S+)", (ROOT / f"configs/{row.config}.yaml").read_text(), re.MULTILINE)
    fractions += re.findall(r"--adapt_fraction (\S+)", row.options)
    return bool(fractions) and fractions[-1] != "0"


class Study:
    def __init__(self, arguments):
        self.program, self.out, self.data = arguments.program, pathlib.Path(arguments.out), arguments.data
        self.rows = [row for row in read_rows(ROOT / "launch/results.tsv") if not (arguments.quick and row.table == "yoochoose")]
        by_name = {(row.table, row.name): row for row in self.rows}
        if len(by_name) != len(self.rows):
            sys.exit("launch/results.tsv names a row twice in one table")
        if arguments.only:
            wanted = {row for row in self.rows if re.search(arguments.only, f"{row.table} {row.name}")}
            wanted |= {by_name[row.table, name] for row in wanted for name in needs(row)}
            self.rows = [row for row in self.rows if row in wanted]
        # Rows that are one and the same training share the run of the first of them.
        self.owners = {}
        for row in self.rows:
            self.owners.setdefault(self.training(row), row)
        self.seeds = arguments.seeds
        self.quick = arguments.quick
        cores = sorted(os.sched_getaffinity(0))
        self.cores = queue.Queue()
        for i in range(arguments.jobs or len(cores)):
            self.cores.put(cores[i % len(cores)])
        self.workers = arguments.jobs or len(cores)

    def seeds_of(self, row):
        count = self.seeds or (1 if self.quick else 5 if row.table == "ml-100k" else 3)
        return range(2020, 2020 + count)

    @staticmethod
    def training(row):
        return row.config, row.options, row.table if needs(row) else ""

    def folder_of(self, row, seed):
        row = self.owners[self.training(row)]
        return self.out / "runs" / row.table / re.sub(r"[^A-Za-z0-9]+", "-", row.name).strip("-") / str(seed)

    def command(self, row, seed):
        options = re.sub(r"{(.+?)}", lambda m: shlex.quote(str(self.folder_by_name(row.table, m.group(1), seed))), row.options)
        command = [self.program, "train", "--config", f"configs/{row.config}.yaml"]
        command += self.data_options(row) + shlex.split(options)
        return command + ["--seed", str(seed), "--run_dir", str(self.folder_of(row, seed)), "--num_threads", "1"]

    def folder_by_name(self, table, name, seed):
        return self.folder_of(next(row for row in self.rows if (row.table, row.name) == (table, name)), seed)

    def data_options(self, row):
        path = str(ROOT / ".deps/data") if row.config == "ml-100k" else self.data
        return ["--data_path", path, "--store", str(self.out / "store" / row.config), "--show_progress", "false"]

    def ingest(self):
        for config in dict.fromkeys(row.config for row in self.rows):
            row = next(row for row in self.rows if row.config == config)
            if (self.out / "store" / config / "manifest.h5").exists():
                continue
            command = [self.program, "ingest", "--config", f"configs/{config}.yaml"] + self.data_options(row)[:4]
            print("+", shlex.join(command), flush=True)
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL)
            if done.returncode != 0:
                sys.exit(f"ingest of {config}: exit {done.returncode}, see its message above; --data DIR names the folder of the data")

    def train(self, row, seed):
        folder = self.folder_of(row, seed)
        if self.result_file(row, seed).exists():
            return
        core = self.cores.get()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            command = self.command(row, seed) + ["--resume"]
            print("+", shlex.join(command), flush=True)
            with open(folder / "log.txt", "w") as log:
                done = subprocess.run(["taskset", "-c", str(core)] + command, cwd=ROOT, stdout=log, stderr=log,
                                      env=os.environ | {"OMP_NUM_THREADS": "1"})
            if done.returncode != 0:
                sys.exit(f"{row.table} {row.name}, seed {seed}: exit {done.returncode}; see {folder / 'log.txt'}")
        finally:
            self.cores.put(core)

    def result_file(self, row, seed):
        folder = self.folder_of(row, seed)
        return (folder / "adapted" if adapts(row) else folder) / "result.json"

    def run(self):
        self.ingest()
        trained = list(self.owners.values())
        waves = [[row for row in trained if not needs(row)], [row for row in trained if needs(row)]]
        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            for wave in waves:
                jobs = [pool.submit(self.train, row, seed) for row in wave for seed in self.seeds_of(row)]
                failed = [str(job.exception()) for job in jobs if job.exception()]
                if failed:
                    sys.exit("\n".join(failed))

    @functools.cache
    def results(self, row):
        """One dictionary a seed: valid and test metrics, seconds of all stages, the curve of valid by epoch."""
        found = []
        for seed in self.seeds_of(row):
            result = json.loads(self.result_file(row, seed).read_text())
            folder = self.folder_of(row, seed)
            stages = [folder, folder / "teacher", folder / "adapted"]
            logs = [stage / "result.json" for stage in stages if (stage / "result.json").exists()]
            seconds = sum(json.loads(path.read_text())["train_seconds"] for path in logs)
            curve = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            found.append({"seed": seed, "test": result["test"], "valid": result.get("best_valid"), "seconds": seconds,
                          "curve": [(line["epoch"] + 1, line["valid"]) for line in curve if "valid" in line]})
        return found


def mean_and_spread(values):
    mean = statistics.fmean(values)
    return f"{mean:.4f} ± {statistics.stdev(values):.4f}" if len(values) > 1 else f"{mean:.4f}"


def write_tables(study):
    lines, records = [], ["table\trow\tseed\tvalid recall@20\tvalid mrr@20\ttest recall@20\ttest mrr@20\tseconds"]
    for table in dict.fromkeys(row.table for row in study.rows):
        lines += [f"## {table}", "", "| row | options | Recall@20 | MRR@20 | valid MRR@20 | seconds |", "|---|---|---|---|---|---|"]
        for row in (row for row in study.rows if row.table == table):
            found = study.results(row)
            valid = [run["valid"]["mrr@20"] for run in found if run["valid"]]
            cells = [mean_and_spread([run["test"][metric] for run in found]) for metric in METRICS]
            cells += [mean_and_spread(valid) if valid else "–", f"{statistics.fmean(run['seconds'] for run in found):.0f}"]
            lines.append(f"| {row.name} | `{row.options or '–'}` | {' | '.join(cells)} |")
            for run in found:
                numbers = [run["valid"][metric] if run["valid"] else "" for metric in METRICS] + [run["test"][m] for m in METRICS]
                records.append("\t".join(map(str, [table, row.name, run["seed"], *numbers, round(run["seconds"], 1)])))
        lines.append("")
    (study.out / "results.md").write_text("\n".join(lines))
    (study.out / "results.tsv").write_text("\n".join(records) + "\n")
    print("\n".join(lines))


def draw(study):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plot

    plot.rcParams["svg.hashsalt"] = "gru4rec"  # the same file for the same figures
    for table in dict.fromkeys(row.table for row in study.rows):
        rows = [row for row in study.rows if row.table == table]
        figure, axes = plot.subplots(1, 2, figsize=(11, 1.2 + 0.32 * len(rows)), sharey=True, layout="constrained")
        for axis, metric in zip(axes, METRICS):
            runs = [[run["test"][metric] for run in study.results(row)] for row in rows]
            places = range(len(rows), 0, -1)
            axis.errorbar([statistics.fmean(values) for values in runs], places, fmt="o", capsize=3,
                          xerr=[statistics.stdev(values) if len(values) > 1 else 0 for values in runs])
            for place, values in zip(places, runs):
                axis.plot(values, [place] * len(values), "|", color="0.5")
            axis.set_yticks(list(places), [row.name for row in rows])
            axis.set_xlabel(f"test {metric.replace('recall', 'Recall').replace('mrr', 'MRR')}")
            axis.grid(axis="x", alpha=0.3)
        save(study, figure, table)
    curves = [row for row in study.rows if row.table == "losses"]
    if curves:
        figure, axis = plot.subplots(figsize=(7, 4.5), layout="constrained")
        for row in curves:
            epochs = [epoch for epoch, _ in study.results(row)[0]["curve"]]
            runs = [[valid["mrr@20"] for _, valid in run["curve"]] for run in study.results(row)]
            length = min(map(len, runs))
            axis.plot(epochs[:length], [statistics.fmean(run[i] for run in runs) for i in range(length)], marker=".", label=row.name)
        axis.set_xlabel("epoch")
        axis.set_ylabel("valid MRR@20")
        axis.grid(alpha=0.3)
        axis.legend()
        save(study, figure, "losses-by-epoch")


def save(study, figure, name):
    for kind in ("svg", "png"):
        figure.savefig(study.out / f"{name}.{kind}", dpi=120, metadata={"Date": None} if kind == "svg" else None)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--only")
    parser.add_argument("--jobs", type=int)
    study = Study(parser.parse_args())
    if not study.rows:
        sys.exit("no row of launch/results.tsv is wanted")
    study.run()
    write_tables(study)
    draw(study)
    print(f"results: {study.out}/results.md, results.tsv and plots")


main()
