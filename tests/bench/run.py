"""Measures, and makes tables and plots of what was measured; see tests/bench/run.sh --help.

A section measures one thing in rounds, everything it compares in alternation on one core, and keeps what it saw as DIR/NAME.json.
Tables and plots are made of those files alone (--tables makes them again without measuring).
"""

import argparse
import collections
import json
import math
import os
import pathlib
import random
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BENCH = pathlib.Path(__file__).resolve().parent
PERFORMANCE = ROOT / "docs/performance.md"
# RecBole's own best valid MRR@10 on ml-100k, mean of the seeds 2020 to 2022; "reached" is the first of three evaluations in a row
# whose mean is that much, as one alone may be luck.
RECBOLE_BEST = 0.0457
IN_A_ROW = 3

# What a time is measured by, and how a table says so: processor time is not lengthened by other work on the core.
CLOCKS = {"clock": "", "cpu": " of processor time"}

Row = collections.namedtuple("Row", "group what values digits")


def fail(message):
    sys.exit(f"run.py: {message}")


def processor():
    """The name and the flags of the first processor of /proc/cpuinfo."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = {key: re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE) for key in ("model name", "flags")}
    return {key: match.group(1) if match else "" for key, match in found.items()}


class Bench:
    """What the sections share: programs, folders, the core, and how a process is run on it."""

    def __init__(self, arguments):
        self.program, self.step_program, self.event_files = arguments.program, arguments.step_program, arguments.event_files
        self.former = arguments.former
        self.out = pathlib.Path(arguments.out).resolve()
        self.quick, self.core = arguments.quick, arguments.core
        self.rounds = arguments.rounds or (1 if arguments.quick else 5)
        self.recbole_python, self.gru4rec_code = arguments.recbole_python, arguments.gru4rec_code
        self.work = self.out / "work"
        self.work.mkdir(parents=True, exist_ok=True)

    def on_core(self, command):
        return ["taskset", "-c", str(self.core)] + [str(part) for part in command]

    def environment(self, extra=None):
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NO_COLOR": "1"}
        return os.environ | one_thread | (extra or {})

    def run(self, name, command, environment=None):
        """Runs it on the core, without looking at what it prints unless it fails."""
        log = self.work / f"{name}.log"
        with open(log, "w") as out:
            done = subprocess.run(self.on_core(command), cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                  env=self.environment(environment))
        if done.returncode != 0:
            last = log.read_text().strip().splitlines()[-1:]
            fail(f"exit {done.returncode} of {shlex.join(map(str, command))}: {last}; see {log}")

    def ingest(self, name, options):
        """A store of these options, made once; the options that name it."""
        store = self.work / "store" / name
        options = [*options, "--store", store]
        if not (store / "manifest.h5").exists():
            self.run(f"ingest-{name}", [self.program, "ingest", *options])
        return options

    def follow(self, name, command, pattern, until=None):
        """Runs it on the core; a dictionary for every line of its output with the pattern: the match, the seconds since the process was
        started, its processor seconds. Goes on until it ends or until(lines so far) is true. Then the same of its end, with its peak of
        memory in MiB."""
        start, found, enough, log = time.monotonic(), [], False, self.work / f"{name}.log"
        process = subprocess.Popen(self.on_core(command), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   stdin=subprocess.DEVNULL, env=self.environment({"PYTHONUNBUFFERED": "1"}))
        with open(log, "w") as out:
            for line in process.stdout:
                out.write(line)
                match = re.search(pattern, line)
                if match:
                    found.append({"match": match, "clock": time.monotonic() - start, "cpu": cpu_seconds(process.pid)})
                    enough = until is not None and until(found)
                    if enough:
                        process.kill()
                        break
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        end = {"clock": time.monotonic() - start, "cpu": usage.ru_utime + usage.ru_stime, "mebibytes": usage.ru_maxrss / 1024}
        process.returncode = os.waitstatus_to_exitcode(status)
        if (process.returncode != 0 and not enough) or not found:
            fail(f"exit {process.returncode} of {shlex.join(map(str, command))}; see {log}")
        return found, end

    def epochs(self, name, options, until=None):
        """Trains in one process on the core; a dictionary an epoch, and its peak of memory in MiB."""

        def described(lines):
            return [{"epoch": int(line["match"][1]), "valid": float(line["match"][3]) if line["match"][3] else None,
                     "clock": line["clock"], "cpu": line["cpu"]} for line in lines]

        folder = self.work / "run" / name
        shutil.rmtree(folder, ignore_errors=True)
        command = [self.program, "train", *options, "--replicas", "1", "--num_threads", "1", "--show_progress", "false",
                   "--log_level", "info", "--run_dir", folder]
        lines, end = self.follow(name, command, r"epoch (\d+)  loss \S+  \S+ s(?:  valid (\S+) (\S+))?",
                                  until and (lambda found: until(described(found))))
        return described(lines), end["mebibytes"]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rates_between(epochs, targets):
    """Targets a second after the first epoch, by the clock and by processor time."""
    return {clock: targets * (len(epochs) - 1) / (epochs[-1][clock] - epochs[0][clock]) for clock in CLOCKS}


def reached(valid):
    """The number of evaluations up to and with the first of IN_A_ROW whose mean is RecBole's best; None if there is none."""
    for i in range(IN_A_ROW, len(valid) + 1):
        if statistics.fmean(valid[i - IN_A_ROW:i]) >= RECBOLE_BEST:
            return i - IN_A_ROW + 1
    return None


def by_round(records, name):
    """The values of one name in the order of the rounds."""
    return [record[name] for record in records if record.get(name) is not None]


class Step:
    """A training step, the softmax and the GRU in it, beside their roofs and beside LibTorch."""

    name, peer = "step", None

    def measure(self, bench):
        """LibTorch has a process of its own, whose heap is as the C library has it, which is how programs that use LibTorch run."""
        raw = {"benchmarks": []}
        for i in range(bench.rounds):
            for environment, filter in (({}, "-/libtorch$"), ({"PLAIN_HEAP": "1"}, "/libtorch$")):
                once = google_benchmarks(bench, self.name, environment, filter=filter)
                raw["benchmarks"] += [run | {"round": i} for run in once]
        return raw

    def rows(self, raw):
        rows = []
        for shape, rounds in by_shape(raw["benchmarks"]).items():
            rows += [Row(shape, f"{part}, ms", by_round(rounds, part), 1) for part in PARTS if any(part in times for times in rounds)]
            for part, roof in ROOFS.items():
                ratios = [times[part] / sum(times[name] for name in roof) for times in rounds if {part, *roof} <= times.keys()]
                if ratios:
                    bold = "**" if part == "step" else ""
                    roof_text = roof[0] if len(roof) == 1 else f"({' + '.join(roof)})"
                    rows.append(Row(shape, f"{bold}{part} ÷ {roof_text}{bold}", ratios, 2))
            ratios = [times["libtorch"] / times["step"] for times in rounds if {"libtorch", "step"} <= times.keys()]
            if ratios:
                rows.append(Row(shape, "**libtorch ÷ step**", ratios, 2))
        return rows

    def notes(self, raw):
        return []

    def draw(self, raw, plot):
        shapes = by_shape(raw["benchmarks"])
        figure, axes = plot.subplots(1, len(shapes), figsize=(5.5 * len(shapes), 3.6), layout="constrained", squeeze=False)
        for axis, (shape, rounds) in zip(axes[0], shapes.items()):
            bars = (("roof", ("products", "exp")), ("step", ("step",)), ("LibTorch", ("libtorch",)))
            for place, (_, parts) in enumerate(bars):
                left = 0
                for i, part in enumerate(parts):
                    times = by_round(rounds, part)
                    if times:
                        bar = axis.barh(place, statistics.median(times), left=left, color=f"C{i}", height=0.6)
                        axis.bar_label(bar, [part] if len(parts) > 1 else [f"{statistics.median(times):.0f}"], label_type="center")
                        left += statistics.median(times)
            axis.set_yticks(range(len(bars)), [name for name, _ in bars])
            axis.invert_yaxis()
            axis.set_xlabel(f"ms a step, {shape}")
        return figure


# What bench_step measures, and what a part of it cannot do without.
PARTS = ("step", "softmax", "gru", "products", "softmax_products", "gru_products", "exp", "libtorch")
ROOFS = {"step": ("products", "exp"), "softmax": ("softmax_products", "exp"), "gru": ("gru_products",)}


def google_benchmarks(bench, name, environment, filter):
    """One run of bench_step on the core, its parts in random order: name, milliseconds of processor time, which another program on
    the core does not lengthen."""
    result = bench.work / f"{name}.json"
    options = ["--benchmark_enable_random_interleaving=true", f"--benchmark_filter={filter}", f"--benchmark_out={result}",
               "--benchmark_out_format=json"]
    options += ["--benchmark_min_time=0.05"] if bench.quick else []
    bench.run(name, [bench.step_program, *options], environment)
    return [{"name": run["name"], "ms": run["cpu_time"]} for run in json.loads(result.read_text())["benchmarks"]]


def by_shape(benchmarks):
    """shape: one dictionary a round, part: milliseconds."""
    shapes = collections.defaultdict(lambda: collections.defaultdict(dict))
    for run in benchmarks:
        shape, part = run["name"].split("/")[:2]
        shapes[shape][run["round"]][part] = run["ms"]
    return {shape: [rounds[i] for i in sorted(rounds)] for shape, rounds in sorted(shapes.items())}


class RecBole:
    """ml-100k: targets a second and time to quality beside RecBole 1.2.1. It trains an epoch and is held while ours has the core."""

    name, peer = "recbole", "recbole"
    seeds = range(2020, 2025)
    epochs_of_rate = 4

    def measure(self, bench):
        python = bench.recbole_python
        if not python or not pathlib.Path(python).exists():
            fail(f"no Python with RecBole at '{python}'; launch/setup.sh --recbole makes it")
        options = bench.ingest("ml-100k", ["--config", "configs/ml-100k.yaml", "--data_path", ".deps/data"])
        raw = {"targets": None, "recbole": [], "rate": [], "ours": {}}
        with open(bench.work / "recbole.log", "w") as log:
            start = time.monotonic()
            peer = subprocess.Popen(bench.on_core([python, "-W", "ignore", BENCH / "recbole_epochs.py", 2020, 300]), text=True,
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=bench.environment())
            try:
                raw["targets"] = self.next_line(peer, start)["targets"]
                while self.wants_more(raw, bench):
                    self.one_round(raw, bench, peer, start, options)
                    save_raw(bench, self, raw)
            finally:
                peer.kill()
                peer.wait()
        return raw

    def wants_more(self, raw, bench):
        if len(raw["recbole"]) < bench.rounds:
            return True
        return not bench.quick and len(raw["recbole"]) < 60 and reached_after(raw["recbole"]) is None

    def next_line(self, peer, start):
        text = peer.stdout.readline()
        if not text:
            fail("RecBole ended; see recbole.log in the folder work")
        line = json.loads(text)
        line["clock"] -= start
        return line

    def one_round(self, raw, bench, peer, start, options):
        peer.stdin.write("go\n")
        peer.stdin.flush()
        line = self.next_line(peer, start)
        line["valid"] = line["valid"]["mrr@10"]
        raw["recbole"].append(line)
        say(f"RecBole: epoch {line['epoch']}, {line['train_seconds']:.1f} s, valid MRR@10 {line['valid']:.4f}, "
            f"{line['clock']:.0f} s since its start")
        if len(raw["rate"]) < bench.rounds:
            count = 2 if bench.quick else self.epochs_of_rate
            epochs, _ = bench.epochs("rate", [*options, "--epochs", count, "--eval_step", 0])
            rates = rates_between(epochs, raw["targets"])
            raw["rate"].append(rates)
            say(f"ours: {rates['clock']:.0f} targets/s, {rates['clock'] * line['train_seconds'] / raw['targets']:.1f} times as many")
            save_raw(bench, self, raw)
        missing = [seed for seed in self.seeds if str(seed) not in raw["ours"]]
        if missing and not bench.quick:
            self.time_to_quality(raw, bench, options, missing[0])

    def time_to_quality(self, raw, bench, options, seed):
        epochs, _ = bench.epochs("quality", [*options, "--seed", seed], until=lambda found: reached_after(found) is not None)
        raw["ours"][str(seed)] = epochs
        when = reached_after(epochs)
        say(f"ours, seed {seed}: " + ("not reached" if when is None else f"reached after {when['clock']:.1f} s"))

    def rows(self, raw):
        theirs = {clock: [raw["targets"] / line[train] for line in raw["recbole"]]
                  for clock, train in (("clock", "train_seconds"), ("cpu", "train_cpu"))}
        rows = rows_of_rates("RecBole", theirs, raw["rate"])
        peer = reached_after(raw["recbole"])
        for clock, suffix in CLOCKS.items():
            if peer:
                rows.append(Row("time to quality", f"s{suffix}, RecBole, seed 2020", [peer[clock]], 1))
            found = [reached_after(epochs) for epochs in raw["ours"].values()]
            times = [when[clock] if when else math.inf for when in found]
            if times:
                rows.append(Row("time to quality", f"s{suffix}, gru4rec, {len(times)} seeds", times, 1))
            if times and peer:
                ratios = [peer[clock] / t for t in times]
                rows.append(Row("time to quality", f"**RecBole ÷ gru4rec{suffix.replace(' of', ',')}**", ratios, 1))
        return rows

    def notes(self, raw):
        notes = []
        if reached_after(raw["recbole"]) is None:
            notes.append(f"RecBole did not reach {RECBOLE_BEST} in the {len(raw['recbole'])} epochs measured, "
                         f"{raw['recbole'][-1]['cpu']:.0f} s of processor time.")
        missed = [seed for seed, epochs in raw["ours"].items() if reached_after(epochs) is None]
        if missed:
            notes.append(f"gru4rec did not reach it with the seeds {' '.join(missed)}.")
        return notes

    def draw(self, raw, plot):
        figure, axis = plot.subplots(figsize=(7, 4), layout="constrained")
        curves = [("RecBole, seed 2020", raw["recbole"], "C1")]
        label = f"gru4rec, {len(raw['ours'])} seeds"
        curves += [(None if i else label, epochs, "C0") for i, epochs in enumerate(raw["ours"].values())]
        for label, epochs, colour in curves:
            axis.plot([line["cpu"] for line in epochs], [line["valid"] for line in epochs], ".-", color=colour, label=label)
        axis.axhline(RECBOLE_BEST, color="0.6", linewidth=1)
        axis.set_xscale("log")
        axis.set_xlabel("seconds of processor time since the process was started, one core")
        axis.set_ylabel("valid MRR@10, ml-100k")
        axis.legend()
        return figure


def reached_after(epochs):
    """The epoch of `epochs` with which RecBole's best is reached, or None."""
    count = reached([line["valid"] for line in epochs])
    return epochs[count - 1] if count else None


def rows_of_rates(name, theirs, ours):
    """Rates of both and their ratio round by round, by both clocks."""
    rows = []
    for clock, suffix in CLOCKS.items():
        mine = by_round(ours, clock)
        rows += [Row("rate", f"targets/s{suffix}, {name}", theirs[clock], 0), Row("rate", f"targets/s{suffix}, gru4rec", mine, 0),
                 Row("rate", f"**gru4rec ÷ {name}{suffix.replace(' of', ',')}**", [a / b for a, b in zip(mine, theirs[clock])], 1)]
    return rows


class OfficialGru4Rec:
    """ml-100k as sessions, every next item: targets a second beside the official PyTorch code, both with a state of 128."""

    name, peer = "gru4rec", "gru4rec"
    parameters = "loss=cross-entropy,layers=128,batch_size=64,n_sample=2048,constrained_embedding=True,n_epochs=2"
    ours = ["--embedding_size", 128, "--hidden_size", 128, "--score", "dot", "--train_batch_size", 2048, "--epochs", 4]

    def measure(self, bench):
        code = pathlib.Path(bench.gru4rec_code).resolve()
        folder = bench.work / "sessions"
        targets = self.write_sessions(folder)
        options = bench.ingest("sessions", ["--config", "configs/session.yaml", "--data_path", folder])
        ours = self.ours[:-1] + [2] if bench.quick else self.ours
        raw = {"targets": targets, "official": [], "ours": []}
        for _ in range(bench.rounds):
            command = [bench.recbole_python, "-W", "ignore", code / "run.py", folder / "train.tsv", "-d", "cpu", "-ps", self.parameters]
            official, _ = bench.follow("official", command, r"^Epoch(\d+) -->")
            epochs, _ = bench.epochs("rate", [*options, *ours])
            raw["official"].append(rates_between(official, targets))
            raw["ours"].append(rates_between(epochs, targets))
            say(f"official GRU4Rec {raw['official'][-1]['cpu']:.0f}, gru4rec {raw['ours'][-1]['cpu']:.0f} targets/s of processor time")
            save_raw(bench, self, raw)
        return raw

    def write_sessions(self, folder):
        """A user is a session; the last twenty are for testing, which is not timed. The number of training targets."""
        folder.mkdir(parents=True, exist_ok=True)
        users = collections.defaultdict(list)
        for line in (ROOT / ".deps/data/ml-100k/ml-100k.inter").read_text().splitlines()[1:]:
            user, item, _, when = line.split("\t")
            users[int(user)].append((int(float(when)), item))
        order = sorted(users)
        for file, part in (("train.tsv", order[:-20]), ("test.tsv", order[-20:])):
            with open(folder / file, "w") as out:
                out.write("SessionId\tItemId\tTime\n")
                for user in part:
                    for when, item in sorted(users[user], key=lambda event: event[0]):
                        out.write(f"{user}\t{item}\t{when}\n")
        return sum(len(users[user]) - 1 for user in order[:-20])

    def rows(self, raw):
        return rows_of_rates("official GRU4Rec", {clock: by_round(raw["official"], clock) for clock in CLOCKS}, raw["ours"])

    def notes(self, raw):
        return [f"Official: `{self.parameters}`, its second epoch. gru4rec: `configs/session.yaml` with "
                f"`{shlex.join(map(str, self.ours))}`, every item a class, its epochs after the first."]

    def draw(self, raw, plot):
        return None


class Ranks:
    """Two ranks on two cores against two runs of one rank side by side, by ranks.sh."""

    name, peer = "ranks", None
    # Targets of the configuration's step and of RecBole's, shared by the ranks; and as many for each rank as a run of one takes.
    shapes = {"1,024 targets a step": ["--train_batch_size", "1024"],
              "2,048 targets a step": ["--train_batch_size", "2048"],
              "1,024 targets a rank and step": ["--targets_a_rank", "1024"]}

    def measure(self, bench):
        if len(os.sched_getaffinity(0)) < 2:
            fail("ranks wants two cores")
        options = bench.ingest("ml-100k", ["--config", "configs/ml-100k.yaml", "--data_path", ".deps/data"])
        pattern = r"two ranks (\d+) events/s, two runs (\d+) events/s together, twice the slower (\d+), ratio (\S+)"
        raw = {"rounds": []}
        for shape, targets in self.shapes.items():
            done = subprocess.run([BENCH / "ranks.sh", "configs/ml-100k.yaml", str(bench.rounds), *targets, "--store",
                                   str(options[-1])], cwd=ROOT, text=True, capture_output=True,
                                  env=bench.environment({"GRU4REC": str(bench.program)}))
            if done.returncode != 0:
                fail(f"ranks.sh: exit {done.returncode}: {done.stderr.strip()}")
            raw["rounds"] += [{"shape": shape, "two_ranks": int(a), "two_runs": int(b), "twice_slower": int(c), "ratio": float(d)}
                              for a, b, c, d in re.findall(pattern, done.stdout)]
        return raw

    def rows(self, raw):
        rows = []
        for what in self.shapes:
            rounds = [each for each in raw["rounds"] if each["shape"] == what]
            rows += [Row(what, "targets/s of two ranks", by_round(rounds, "two_ranks"), 0),
                     Row(what, "targets/s of two runs of one rank, together", by_round(rounds, "two_runs"), 0),
                     Row(what, "**two ranks ÷ two runs**", by_round(rounds, "ratio"), 2),
                     Row(what, "twice the slower run ÷ two runs", [each["twice_slower"] / each["two_runs"] for each in rounds], 2)]
        return rows

    def notes(self, raw):
        return []

    def draw(self, raw, plot):
        return None


class Catalogues:
    """Time and peak memory of training by the number of items, on made-up sessions of ten items each."""

    name, peer = "catalogues", None
    # items: (times each item is clicked, one of how many sessions is trained on). 36,000 targets, 4,500 and 2,250 of the largest.
    sizes = {1_000: (40, 1), 10_000: (4, 1), 100_000: (1, 20), 1_000_000: (1, 400)}
    options = ["--embedding_size", 64, "--hidden_size", 128, "--score", "dot", "--train_batch_size", 2048, "--epochs", 2]

    def measure(self, bench):
        sizes = self.sizes if not bench.quick else {items: (clicks, 4) for items, (clicks, _) in self.sizes.items() if items <= 10_000}
        stores = {items: self.store(bench, items, clicks) for items, (clicks, _) in sizes.items()}
        raw = {"rounds": []}
        for _ in range(bench.rounds):
            for items, (clicks, part) in sizes.items():
                epochs, peak = bench.epochs("catalogue", [*stores[items], *self.options, "--recent_fraction", f"1/{part}"])
                rates = rates_between(epochs, items * clicks // 10 // part * 9)
                raw["rounds"].append({"items": items, "mebibytes": peak} | {clock: 1e6 / rate for clock, rate in rates.items()})
                say(f"{items} items: {1e6 / rates['cpu']:.1f} µs of processor time a target, peak of {peak:.0f} MiB")
                save_raw(bench, self, raw)
        return raw

    def store(self, bench, items, clicks):
        folder = bench.work / f"catalogue-{items}"
        if not (folder / "train.tsv").exists():
            folder.mkdir(parents=True, exist_ok=True)
            shuffled = random.Random(7)
            events = []
            for _ in range(clicks):
                order = list(range(1, items + 1))
                shuffled.shuffle(order)
                events += order
            head = "SessionId\tItemId\tTime\n"
            tests = [f"{len(events) + i // 10}\t{item}\t{len(events) + i}\n" for i, item in enumerate(events[-20:])]
            (folder / "test.tsv").write_text(head + "".join(tests))
            (folder / "train.tmp").write_text(head + "".join(f"{i // 10}\t{item}\t{i}\n" for i, item in enumerate(events)))
            (folder / "train.tmp").rename(folder / "train.tsv")
        return bench.ingest(f"catalogue-{items}", ["--config", "configs/session.yaml", "--data_path", folder])

    def rows(self, raw):
        rows = []
        for items in sorted({record["items"] for record in raw["rounds"]}):
            records = [record for record in raw["rounds"] if record["items"] == items]
            rows += [Row(f"{items:,} items", f"µs{suffix} a target", by_round(records, clock), 1) for clock, suffix in CLOCKS.items()]
            rows += [Row(f"{items:,} items", "peak memory of the process, MiB", by_round(records, "mebibytes"), 0)]
        return rows

    def notes(self, raw):
        return [f"`configs/session.yaml` with `{shlex.join(map(str, self.options))}`; sessions of ten items in random order; the "
                "second epoch is timed."]

    def draw(self, raw, plot):
        sizes = sorted({record["items"] for record in raw["rounds"]})
        figure, axes = plot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        for axis, name, label in zip(axes, ("cpu", "mebibytes"), ("µs of processor time a target", "peak memory, MiB")):
            values = [by_round([r for r in raw["rounds"] if r["items"] == items], name) for items in sizes]
            middle = [statistics.median(v) for v in values]
            axis.errorbar(sizes, middle, marker="o", capsize=3,
                          yerr=[[m - min(v) for m, v in zip(middle, values)], [max(v) - m for m, v in zip(middle, values)]])
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xlabel("items")
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
        return figure


def instruction_sets(flags):
    """The sets this processor can be held to, the widest first: name, environment. Empty if it has not even AVX-512."""
    flags = set(flags.split())
    avx512 = {"ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512,STRICT"}
    sets = []
    if "amx_tile" in flags:
        sets.append(("AVX-512 and AMX", avx512 | {"DNNL_MAX_CPU_ISA": "AVX512_CORE_AMX"}))
    if "avx512_bf16" in flags:
        sets.append(("AVX-512 and its bf16", avx512 | {"DNNL_MAX_CPU_ISA": "AVX512_CORE_BF16"}))
    if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags:
        sets.append(("AVX-512", avx512 | {"DNNL_MAX_CPU_ISA": "AVX512_CORE"}))
    if sets:
        sets.append(("AVX2", {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2,STRICT", "DNNL_MAX_CPU_ISA": "AVX2"}))
    return sets


class InstructionSets:
    """A step with and without AMX, the bf16 of AVX-512 and AVX-512, by what LibTorch, MKL and oneDNN may use."""

    name, peer = "instructions", None

    def measure(self, bench):
        raw = {"sets": {name: [] for name, _ in instruction_sets(processor()["flags"])}}
        for i in range(bench.rounds if raw["sets"] else 0):
            for name, environment in instruction_sets(processor()["flags"]):
                once = google_benchmarks(bench, self.name, environment, filter="/step$")
                raw["sets"][name] += [run | {"round": i} for run in once]
        return raw

    def rows(self, raw):
        return [Row(shape, f"step, ms, up to {name}", by_round(rounds, "step"), 1)
                for name, runs in raw["sets"].items() for shape, rounds in by_shape(runs).items()]

    def notes(self, raw):
        if not raw["sets"]:
            return ["This processor has no AVX-512, so there is nothing to go without."]
        return ["The sets are those of LibTorch's, MKL's and oneDNN's kernels; the project's own loops always take the widest, "
                "but for products in bf16. With AMX or the bf16 of AVX-512 the products of GRU and softmax are in bf16, without either in "
                "fp32, as `precision: auto` has them."]

    def draw(self, raw, plot):
        return None


class Ingest:
    """Made-up events that `gru4rec ingest` takes a second, from the start of the process to its end, the store durable."""

    name, peer = "ingest", None
    files = ("events.csv", "events.tsv", "events.parquet", "text.parquet")
    options = ["--SESSION_ID_FIELD", "session_id", "--TIME_FIELD", "timestamp", "--eval_args", "{split: {TS: {test: 0.05, valid: 0.05}}}"]

    def measure(self, bench):
        events = 500_000 if bench.quick else 5_000_000
        folder = bench.work / f"events-{events}"
        folder.mkdir(parents=True, exist_ok=True)
        bench.run("event_files", [bench.event_files, folder, events])
        raw = {"events": events, "rounds": []}
        for _ in range(bench.rounds):
            for file in self.files:
                record, digest = self.ingest(bench, bench.program, folder, file)
                if bench.former:
                    former, former_digest = self.ingest(bench, bench.former, folder, file)
                    record["former_cpu"] = former["cpu"]
                    if former_digest != digest:
                        fail(f"{file}: the store has the digest {digest}, that of {bench.former} {former_digest}")
                raw["rounds"].append({"file": file} | record)
                say(f"{file}: {events / record['cpu'] / 1e6:.2f} million events/s of processor time")
                save_raw(bench, self, raw)
        return raw

    def ingest(self, bench, program, folder, file):
        command = [program, "ingest", "--data_path", folder, "--train_file", file, "--store", folder / "store", "--show_progress", "false"]
        lines, end = bench.follow("ingest", command + self.options, r"digest (\w+)")
        return {clock: end[clock] for clock in CLOCKS}, lines[-1]["match"][1]

    def rows(self, raw):
        rows = []
        for file in self.files:
            records = [record for record in raw["rounds"] if record["file"] == file]
            for clock, suffix in CLOCKS.items():
                rates = [raw["events"] / seconds / 1e6 for seconds in by_round(records, clock)]
                rows.append(Row(file, f"million events/s{suffix}", rates, 2))
            ratios = [record["former_cpu"] / record["cpu"] for record in records if "former_cpu" in record]
            if ratios:
                rows.append(Row(file, "**former ÷ this, processor time**", ratios, 2))
        return rows

    def notes(self, raw):
        return [f"{raw['events']:,} events of sessions of ten on average, 100,000 items, in the order of time."]

    def draw(self, raw, plot):
        return None


class StartUp:
    """From the start of `gru4rec train` on ml-100k to the end of its second step, beside `--version` of both programs: gru4rec-torch loads LibTorch for it."""

    name, peer = "startup", None
    # Two steps are all of the epoch that this leaves.
    options = ["--epochs", 1, "--eval_step", 0, "--train_batch_size", 2048, "--recent_fraction", 0.02]

    def measure(self, bench):
        options = bench.ingest("ml-100k", ["--config", "configs/ml-100k.yaml", "--data_path", ".deps/data"])
        raw = {"rounds": []}
        for _ in range(bench.rounds):
            _, answered = bench.follow("version", [bench.program, "--version"], "gru4rec")
            _, loaded = bench.follow("version", [f"{bench.program}-torch", "--version"], "gru4rec")
            epochs, _ = bench.epochs("startup", [*options, *self.options])
            raw["rounds"].append({"answered": answered, "loaded": loaded, "steps": epochs[0]})
        return raw

    def rows(self, raw):
        return [Row(what, f"s{suffix}", [times[name][clock] for times in raw["rounds"]], 2)
                for name, what in (("answered", "`gru4rec --version`"), ("loaded", "`gru4rec-torch --version`"), ("steps", "two steps done"))
                for clock, suffix in CLOCKS.items()]

    def notes(self, raw):
        return []

    def draw(self, raw, plot):
        return None


class Checkpoints:
    """What a checkpoint of 1 GB costs a run that writes one at the end of each epoch, in turn and in the background."""

    name, peer = "checkpoints", None
    items = 1_300_000
    options = ["--embedding_size", 64, "--hidden_size", 128, "--score", "dot", "--train_batch_size", 2048, "--recent_fraction", "1/800",
               "--epochs", 5, "--keep_checkpoints", 1, "--num_threads", 1, "--batches_ahead", "never"]

    def measure(self, bench):
        items = 20_000 if bench.quick else self.items
        options = [*CATALOGUES.store(bench, items, 1), *self.options]
        folder = bench.work / "run" / "checkpoints"
        raw = {"rounds": []}
        for _ in range(bench.rounds):
            for cores in (str(bench.core), f"0-{os.cpu_count() - 1}"):
                for background in ("false", "true"):
                    shutil.rmtree(folder, ignore_errors=True)
                    bench.run("checkpoints", ["taskset", "-c", cores, bench.program, "train", *options, "--checkpoint_in_background", background,
                                              "--run_dir", folder])
                    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][1:]
                    size = max(file.stat().st_size for file in (folder / "checkpoints").glob("*.h5"))
                    raw["rounds"].append({"cores": "the same core" if cores == str(bench.core) else "all cores", "background": background,
                                          "megabytes": size / 1e6, "waits": [epoch["time"]["checkpoint"] for epoch in epochs],
                                          "seconds": [epoch["seconds"] for epoch in epochs]})
                    say(f"{raw['rounds'][-1]}")
                    save_raw(bench, self, raw)
        return raw

    def rows(self, raw):
        rows = []
        for cores in ("the same core", "all cores"):
            of = {name: [record for record in raw["rounds"] if record["cores"] == cores and record["background"] == name]
                  for name in ("false", "true")}
            if not of["true"]:
                continue  # it was interrupted before
            # An epoch without its checkpoint: nothing is being written then.
            bare = [statistics.median(s - w for s, w in zip(record["seconds"], record["waits"])) for record in of["false"]]
            for name, records in of.items():
                how = ("in turn" if name == "false" else "in the background") + ", " + cores
                longer = [s - rest for record, rest in zip(records, bare) for s in record["seconds"]]
                rows += [Row(how, "s that training waits", [wait for record in records for wait in record["waits"]], 2),
                         Row(how, "s that an epoch is longer", longer, 2),
                         Row(how, "**% of the time, one a minute**", [100 * each / 60 for each in longer], 1)]
        return rows

    def notes(self, raw):
        return [f"A state of {raw['rounds'][0]['megabytes']:,.0f} MB: `configs/session.yaml` with `{shlex.join(map(str, self.options))}`. An "
                "epoch is compared with the median of those of the run in turn, without what that waits."]

    def draw(self, raw, plot):
        return None


CATALOGUES = Catalogues()
SECTIONS = [Step(), RecBole(), OfficialGru4Rec(), Ranks(), CATALOGUES, InstructionSets(), Ingest(), StartUp(), Checkpoints()]


def say(text):
    print(text, file=sys.stderr, flush=True)


def save_raw(bench, section, raw):
    """DIR/NAME.json, replaced whole; after every round, so that what is interrupted is not lost."""
    path = bench.out / f"{section.name}.json"
    record = {"processor": processor()["model name"], "rounds": bench.rounds, "quick": bench.quick, "core": bench.core}
    path.with_suffix(".tmp").write_text(json.dumps(record | {"raw": raw}, indent=1) + "\n")
    path.with_suffix(".tmp").rename(path)


def table(section, raw):
    """Lines of a Markdown table with min, median and max of every row, then its notes."""
    lines, rows, group = [], section.rows(raw), None
    if rows:
        lines += ["| | | min | median | max |", "|---|---|---|---|---|"]
    for row in rows:
        cells = ["never" if value == math.inf else f"{value:,.{row.digits}f}" for value in (min(row.values), statistics.median(row.values), max(row.values))]
        if len(row.values) == 1:
            cells = ["", cells[1], ""]
        if row.what.startswith("**"):
            cells[1] = f"**{cells[1]}**"
        lines.append(f"| {'' if row.group == group else row.group} | {row.what} | {' | '.join(cells)} |")
        group = row.group
    notes = section.notes(raw)
    return lines + ([""] if rows and notes else []) + notes


def write_performance(tables):
    """The sections of docs/performance.md between their marks."""
    text = PERFORMANCE.read_text()
    for name, lines in tables.items():
        begin, end = f"<!-- run.sh {name} -->\n", "<!-- end -->\n"
        before, found, after = text.partition(begin)
        if not found:
            fail(f"{PERFORMANCE} has no line {begin.strip()}")
        text = before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after.partition(end)[2]
    PERFORMANCE.write_text(text)


def draw(bench, section, raw):
    try:
        import matplotlib
    except ImportError:
        say("no plots: this Python has no matplotlib; launch/setup.sh --results makes one that has")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plot

    plot.rcParams["svg.hashsalt"] = "gru4rec"  # the same file for the same figures
    figure = section.draw(raw, plot)
    if figure is None:
        return
    for kind in ("svg", "png"):
        figure.savefig(bench.out / f"{section.name}.{kind}", dpi=120, metadata={"Date": None} if kind == "svg" else None)
    plot.close(figure)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="")
    parser.add_argument("--step_program", default="")
    parser.add_argument("--event_files", default="")
    parser.add_argument("--former", default="")
    parser.add_argument("--recbole_python", default="")
    parser.add_argument("--gru4rec_code", default="")
    parser.add_argument("--out", required=True)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("sections", nargs="+", choices=[section.name for section in SECTIONS])
    arguments = parser.parse_args()
    bench = Bench(arguments)
    tables = {}
    for section in (section for section in SECTIONS if section.name in arguments.sections):
        path = bench.out / f"{section.name}.json"
        if not arguments.tables:
            say(f"== {section.name}: {section.__doc__}")
            save_raw(bench, section, section.measure(bench))
        elif not path.exists():
            fail(f"{path} is not there: {section.name} has not been measured")
        record = json.loads(path.read_text())
        tables[section.name] = table(section, record["raw"])
        draw(bench, section, record["raw"])
    text = "\n".join(f"## {name}\n\n" + "\n".join(lines) + "\n" for name, lines in tables.items())
    (bench.out / "tables.md").write_text(text)
    print(text)
    if arguments.docs:
        write_performance(tables)
    say(f"tables, plots and what was measured: {bench.out}")


if __name__ == "__main__":
    main()
