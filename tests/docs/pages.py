#!/usr/bin/env python3
"""README and docs hold: links lead somewhere, pictures are shown, files that are named exist, and commands run.

usage: tests/docs/pages.py links
       tests/docs/pages.py commands PROGRAM
       tests/docs/pages.py hosts PROGRAM
       tests/docs/pages.py tool gdb|perf PROGRAM
       tests/docs/pages.py clone

Commands are the lines of indented code blocks. tests/docs/commands.tsv says of each how it is tried: in a folder with data and
a store (fresh), in one that has a trained run too (trained), where the command above it left off (after), or what else runs it.
Data, and what stands for a reader's own (DATA, SEED, ...), are made up, so that all of it takes about a minute. Those for two
machines (hosts) are run on two hosts made of network namespaces, and so are those with a hostfile: there the hosts' own script
stands for launch/mpirun.sh and launch/supervise.sh, as it takes the place of ssh. Those of a debugger and a profiler (gdb,
perf) are run where the tool is there and allowed to work, with what the page types into it; what the page shows has to come.
Those that a reader types in a new clone (clone) are run in clones of HEAD, for some minutes, by .ci/run; gdb then looks into
the program that was built there, as the page speaks of the release build with all its debug information. Words after any of
these make a command short: options are put behind it, NAME=VALUE takes the place of a variable. A command that is not in that
file, or no longer in a page, is an error.
"""
import gzip
import json
import os
import pathlib
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LIST = ROOT / "tests" / "docs" / "commands.tsv"
CLONES = ROOT / "build" / "clones"
TEST = re.compile(r"(EndToEnd|Cluster|Fault|Launch|StoreDocuments)\.(\w+)$")
HOW = re.compile(r"(fresh|trained|after|hosts|gdb|perf|clone)( (--\w+|[A-Z]+=\w+))*$|(not run: .+|by (hand|\.ci/run)\b.*)$|"
                 rf"{TEST.pattern}")
# What stands in a command for a reader's own; DATA, LISTS and NAME are there as folders of these names and made-up files.
STANDS_FOR = {"SEED": "7", "ROW": "--epochs 2"}
# What the output of a command must have, where its exit code says too little.
MUST_SAY = {"quickstart.sh": r"\ntest: recall@20 0\.\d+  mrr@20 0\.\d+", "perf report": r"\d%  gru4rec +libtorch_cpu\.so",
            "bootstrap.py": r"60 users; ours: 5 seed.s., reference: 3", "overlap.sh": ": on ÷ off: min", "batches_ahead.sh": r"\nahead / by itself: min",
            "--only ranks": r"\*\*two ranks ÷ two runs\*\* \|", "--only recbole": r"\*\*gru4rec ÷ RecBole\*\* \|",
            "results.sh": "results.md, results.tsv and plots", "kill_matrix.sh": "6 faults, "}
COMMAND = re.compile(r"([A-Z_]+=\S+ )*(gru4rec|\.ci/|build/|launch/|tests/|cluster/|mpirun|git|cmake|python|perf|sbatch|export|"
                     r"chromium|tensorboard|gdb|printf|for|echo)\b")

USERS = 60  # of the made-up data
STORES = ["gru4rec ingest --config configs/ml-100k.yaml", "gru4rec ingest --config my.yaml"]


def prose(page):
    """The lines of a page that are not in a code block."""
    fenced = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield line


def anchors(page):
    """Headings as GitHub makes anchors of them."""
    found = set()
    for line in prose(page):
        if match := re.match(r"#+ (.*)", line):
            text = re.sub(r"[^\w\- ]", "", match[1].replace("`", "").lower()).replace(" ", "-")
            found.add(text)
    return found


def check_links():
    errors, shown = [], set()
    for page in PAGES:
        text = "\n".join(prose(page))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+://", target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.exists():
                errors.append(f"{page.name}: link to {target}: there is no such file")
            elif anchor and anchor not in anchors(file):
                errors.append(f"{page.name}: link to {target}: no such heading")
            shown.add(file)
        for name in re.findall(r"`((?:launch|tests|cluster|configs|include|src|cmake)/[\w./-]+)`", text):
            if not (ROOT / name).exists() and not (ROOT / "include" / "gru4rec" / name).exists():
                errors.append(f"{page.name}: {name} does not exist")
    for picture in sorted((ROOT / "docs").glob("*.png")) + sorted((ROOT / "docs").glob("*.svg")):
        if picture not in shown:
            errors.append(f"{picture.name}: no page shows it")
        elif not any(f"docs/{picture.name}" in command for page in PAGES for command in commands(page)):
            errors.append(f"{picture.name}: no command of a page makes it")
    return errors


def commands(page):
    """The commands of a page's indented code blocks; loops and continued lines as one."""
    lines = iter(page.read_text().splitlines())
    fenced = False
    for line in lines:
        fenced ^= line.startswith("```")
        if fenced or not re.match(r"    \S", line) or not COMMAND.match(line.strip()):
            continue
        text = line.strip()
        while text.endswith("\\") or (text.startswith("for ") and not text.endswith("done")):
            text += "\n" + next(lines).strip()
        yield text


def listed():
    """Page, command (lines joined by blanks) → how it is tried."""
    rows = {}
    for line in LIST.read_text().splitlines()[1:]:
        page, how, command = line.split("\t")
        rows[page, command] = how
    return rows


def make_folder(folder, program):
    """What a reader has after the README's first command, and the files that pages speak of; data are made up."""
    for name in ["configs", "launch", "cluster", "docs"]:
        (folder / name).symlink_to(ROOT / name)
    make_tests(folder)
    (folder / "build" / "release").mkdir(parents=True)
    (folder / "build" / "release" / "gru4rec").symlink_to(program)
    (folder / ".deps").mkdir()
    for name in (ROOT / ".deps").glob("venv*"):
        (folder / ".deps" / name.name).symlink_to(name)
    (folder / "bin").mkdir()
    (folder / "bin" / "gru4rec").symlink_to(program)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{python_with_numpy()}" "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    draw = random.Random(7)
    for data in ["ml-100k", "my"]:
        place = folder / ".deps" / "data" / data
        place.mkdir(parents=True)
        with open(place / f"{data}.inter", "w") as file:
            print("user_id:token", "item_id:token", "rating:float", "timestamp:float", sep="\t", file=file)
            for user in range(USERS):
                item = draw.randrange(400)
                for i in range(draw.randrange(6, 40)):
                    print(user + 1, item + 1, 5, 100 * user + i, sep="\t", file=file)
                    item = (5 * item + 1) % 400 if draw.random() < 0.8 else draw.randrange(400)
    with open(folder / ".deps" / "data" / "tuesday.tsv", "w") as file:
        print("user_id", "item_id", "timestamp", sep="\t", file=file)
        for user in range(20):
            for i in range(4):
                print(f"t{user}", "new" if i == 2 else 20 * i + user + 1, 10000 + 100 * user + i, sep="\t", file=file)
    make_session_data(folder, draw)
    (folder / "my.yaml").write_text("dataset: my\ndata_path: .deps/data\nepochs: 2\nreplicas: 4\n"
                                    "eval_args: {split: {TS: {test: 0.1, valid: 0.1}}}\n")
    (folder / "hosts").write_text("localhost slots=4\n")
    (folder / "sessions.jsonl").write_text('{"session": ["242", "302"]}\n{"session": ["377"]}\n')


def make_tests(folder):
    """tests/ as it is, but of RecBole's ranks only those of the users that the made-up data have, too."""
    (folder / "tests").mkdir()
    for path in (ROOT / "tests").iterdir():
        if path.name != "golden":
            (folder / "tests" / path.name).symlink_to(path)
    golden = folder / "tests" / "golden"
    golden.mkdir()
    shutil.copy(ROOT / "tests" / "golden" / "bootstrap.py", golden)
    head, *ranks = (ROOT / "tests" / "golden" / "recbole_ranks_ml100k.tsv").read_text().splitlines()
    ranks = [line for line in ranks if int(line.split("\t")[0]) <= USERS]
    (golden / "recbole_ranks_ml100k.tsv").write_text("\n".join([head, *ranks]) + "\n")


def python_with_numpy():
    made = ROOT / ".deps" / "venv-tests" / "bin" / "python"
    return os.environ.get("GRU4REC_TEST_PYTHON") or (made if made.exists() else sys.executable)


def make_session_data(folder, draw):
    """The files of configs/yoochoose.yaml and configs/rsc15-100k.yaml, and session lists, as the pages name them."""
    (folder / "DATA").mkdir()
    (folder / "LISTS").mkdir()
    sessions = [[1 + (7 * session + 3 * i) % 50 for i in range(draw.randrange(3, 9))] for session in range(60)]
    for data in ["yoochoose1_64", "rsc15_100k"]:
        for part, first, last in [("train", 0, 50), ("test", 50, 60)]:
            with gzip.open(folder / "DATA" / f"{data}.{part}.tsv.gz", "wt") as file:
                print("SessionId", "ItemId", "Time", sep="\t", file=file)
                for session in range(first, last):
                    for i, item in enumerate(sessions[session]):
                        print(session, item, 100 * session + i, sep="\t", file=file)
    pickled = {"all_train_seq": sessions[:50],
               "test": ([s[:n] for s in sessions[50:] for n in range(len(s) - 1, 0, -1)],
                        [s[n] for s in sessions[50:] for n in range(len(s) - 1, 0, -1)])}
    for name, content in pickled.items():
        (folder / "LISTS" / f"{name}.txt").write_bytes(pickle.dumps(content))


def shortened(command, how):
    """The command with the words after its kind in `how`: NAME=VALUE in the place of a variable, options behind it."""
    for word in how.split()[1:]:
        name, equals, _ = word.partition("=")
        if equals and not word.startswith("--"):
            command = re.sub(rf"\b{name}=\S+", word, command) if f"{name}=" in command else f"{word} {command}"
        else:
            command += f" {word}"
    return command


def run(folder, command, typed="", limit=300, shows=(), **more):
    """What went wrong, or None. typed: its standard input; shows: lines that it has to print; more: of its environment."""
    for word, value in STANDS_FOR.items():
        command = re.sub(rf"(?<= ){word}(?![\w=])", value, command)
    environment = dict(os.environ, PATH=f"{folder}/bin:{os.environ['PATH']}", OMP_NUM_THREADS="1",
                       OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    for name in ["GRU4REC", "TALLY", "DEBUGINFOD_URLS"]:
        environment.pop(name, None)
    environment.update(more)
    # perf writes its samples into a pipe where it finds one.
    with tempfile.TemporaryFile("w+") as typing, tempfile.TemporaryFile("w+", errors="replace") as output:
        typing.write(typed)
        typing.seek(0)
        process = subprocess.Popen(["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, stdin=typing, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(limit)
            ended = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ended = f"not done after {limit} s"
        output.seek(0)
        said = output.read()
    if ended:
        return f"{ended}:\n{said[-1500:]}"
    wanted = [as_pattern(line) for line in shows] + [text for part, text in MUST_SAY.items() if part in command]
    begin = 0
    for pattern in wanted:
        match = re.compile(pattern).search(said, begin)
        if match is None:
            return f"what it printed lacks '{pattern}':\n{said[-1500:]}"
        begin = match.end()
    return None


def as_pattern(line):
    """A line that a page shows, with any numbers, and with anything where it has an ellipsis."""
    pattern = re.sub(r"\d+", r"\\w+", re.escape(line)).replace("…", r"[\s\S]*?")
    return re.sub(r"(\\ )+", r"\\s+", pattern)


def kind(how):
    """How a command is tried, in a word; None for what nothing here runs."""
    return how.split()[0] if how and not how.startswith(("not run:", "by ")) and not TEST.match(how) else None


def of_kind(wanted):
    """Page, command, how of the commands that are tried so, in the order of the pages."""
    how_tried = listed()
    for page in PAGES:
        for command in commands(page):
            how = how_tried.get((page.name, " ".join(command.split("\n"))), "")
            if kind(how) == wanted:
                yield page, command, how


def typed_and_shown(page, command):
    """What a page types at the prompt of the command, and the lines that come: all that is indented up to the next heading."""
    text = page.read_text().partition(command + "\n")[2]
    lines = [line.strip() for line in re.split(r"(?m)^#", text)[0].splitlines() if line.startswith("    ")]
    prompt = "(gdb) "
    shown = [line for line in lines if not line.startswith(prompt)]
    return [line[len(prompt):] for line in lines if line.startswith(prompt)], shown


def check_commands(program):
    errors, how_tried, seen = [], listed(), set()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        fresh, trained, work = scratch / "fresh", scratch / "trained", scratch / "work"
        fresh.mkdir()
        make_folder(fresh, program)
        for step in [*STORES, "gru4rec ingest --config configs/rsc15-100k.yaml --data_path DATA"]:
            if error := run(fresh, step):
                return [f"{step}: {error}"]
        shutil.copytree(fresh, trained, symlinks=True)
        steps = ["gru4rec train --config configs/ml-100k.yaml",
                 "gru4rec export --checkpoint runs/ml-100k --format recbole --output ml-100k.pth && "
                 "cp ml-100k.ids.json recbole-items.json"]
        for step in steps:
            if error := run(trained, step):
                return [f"{step}: {error}"]
        tried = 0
        for page in PAGES:
            for command in commands(page):
                key = (page.name, " ".join(command.split("\n")))
                seen.add(key)
                how = how_tried.get(key)
                if how is None:
                    errors.append(f"{page.name}: nothing in {LIST.name} says how this is tried: {key[1]}")
                    continue
                if not HOW.match(how):
                    errors.append(f"{LIST.name}: '{how}' is no way to try a command: {key[1]}")
                if kind(how) not in ("fresh", "trained", "after"):
                    continue
                if kind(how) != "after":
                    shutil.rmtree(work, ignore_errors=True)
                    shutil.copytree(fresh if kind(how) == "fresh" else trained, work, symlinks=True)
                tried += 1
                # Else the scripts of launch/ would take a program of the checkout.
                if error := run(work, shortened(command, how), GRU4REC=str(program)):
                    errors.append(f"{page.name}: {command}\n  {error}")
        print(f"{tried} of {len(seen)} commands were run here")
    tests = "\n".join(file.read_text() for file in [*ROOT.glob("tests/**/CMakeLists.txt"), *ROOT.glob("tests/unit/*.cpp")])
    for how in set(how_tried.values()):
        if (match := TEST.match(how)) and match[2] not in tests:
            errors.append(f"{LIST.name}: there is no test {how}")
    errors += [f"{LIST.name}: {page} no longer has: {command}" for page, command in how_tried if (page, command) not in seen]
    return errors


def why_no_hosts():
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"gru4rec-probe{os.getpid()}"
    made = subprocess.run(f"ip netns add {probe} && ip netns delete {probe}", shell=True, capture_output=True)
    return None if made.returncode == 0 else "this machine does not allow network namespaces"


def check_hosts(program):
    """The commands for two machines, in the order of the pages; those with a hostfile before the hosts are taken down."""
    literal = [*of_kind("hosts")]
    others = [row for row in [*of_kind("fresh"), *of_kind("trained")] if "--hostfile hosts" in row[1]]
    errors = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_folder(folder, program)
        more = {"GRU4REC": str(program), "TESTHOSTS": f"page{os.getpid()}x"}
        for step in [*STORES, "gru4rec ingest --config configs/yoochoose.yaml --data_path DATA"]:
            if error := run(folder, step):
                return [f"{step}: {error}"]
        try:
            for page, command, how in [*literal[:-1], *others, literal[-1]]:
                if kind(how) != "hosts":
                    shutil.rmtree(folder / "runs", ignore_errors=True)
                    command = re.sub(r"launch/(mpirun|supervise)\.sh", r"cluster/testhosts.sh \1", command)
                if error := run(folder, shortened(command, how), **more):
                    errors.append(f"{page.name}: {command}\n  {error}")
        finally:
            run(folder, "cluster/testhosts.sh down", **more)
    print(f"{len(literal) + len(others)} commands were run on two hosts")
    return errors


# What of a run there has to be for it, what has to work where it is allowed to, and what that prints.
TOOLS = {"gdb": ("gru4rec train --config configs/ml-100k.yaml --replicas 4 --epochs 2",
                 "gdb -nx -batch -ex run --args true", "exited normally"),
         "perf": ("true", "perf record -e cpu-clock -g -o /dev/null true", "")}


def why_no_tool(tool):
    if shutil.which(tool) is None:
        return f"there is no {tool}; launch/setup.sh --tests installs it"
    _, probe, wanted = TOOLS[tool]
    done = subprocess.run(f"{probe} 2>&1", shell=True, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    if done.returncode == 0 and wanted in done.stdout:
        return None
    return f"{tool} may not look into a process here: {' '.join(done.stdout.split())[-200:]}"


def check_tool(tool, program):
    """Its commands, one after the other."""
    errors = []
    rows = [*of_kind(tool)]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_folder(folder, program)
        for step in [STORES[0], TOOLS[tool][0]]:
            if error := run(folder, step):
                return [f"{step}: {error}"]
        for page, command, how in rows:
            typed, shows = typed_and_shown(page, command) if tool == "gdb" else ([], [])
            if error := run(folder, shortened(command, how), typed="".join(f"{line}\n" for line in typed), shows=shows,
                            HOME=str(folder)):  # a reader's own settings would change what they print
                errors.append(f"{page.name}: {command}\n  {error}")
    print(f"{len(rows)} commands of {tool} were run")
    return errors if rows else [f"{LIST.name} has no command of {tool}"]


def try_in_clone(page, command, how, here, shows=()):
    """Runs it in the clone `here`, or beside it where it makes a clone: the clone it ran in, and what went wrong or None."""
    origin = CLONES / "origin" / "gru4rec"
    place, clone = here, here
    if command.startswith("git clone"):
        place = CLONES / page.stem
        place.mkdir()
        clone = place / "gru4rec"
    text = shortened(command, how).replace("<this repository>", str(origin)).replace("…", str(origin), 1)
    # Libraries and ml-100k are those of this clone, so as not to be fetched again.
    text = text.replace("cd gru4rec", f"cd gru4rec && ln -s '{ROOT}/.deps' .deps")
    began = time.monotonic()
    error = run(place, text, limit=2400, shows=shows, GIT_CONFIG_GLOBAL=str(CLONES / "gitconfig"), CCACHE_BASEDIR=str(clone),
                CCACHE_NOHASHDIR="1")
    print(f"{time.monotonic() - began:.0f} s: {command}", flush=True)
    return clone, error and f"{page.name}: {command}\n  {error}"


def check_clones():
    """What a reader types in a clone of HEAD; at last the quickstart again, which then has little to do, to equal figures."""
    shutil.rmtree(CLONES, ignore_errors=True)
    (CLONES / "origin").mkdir(parents=True)
    (CLONES / "origin" / "gru4rec").symlink_to(ROOT)
    (CLONES / "gitconfig").write_text("[safe]\n\tdirectory = *\n")  # the clone's files may belong to another user
    first, *rows = of_kind("clone")
    here, error = try_in_clone(*first, None)
    if error:
        return [error]
    make_session_data(here, random.Random(7))
    again = next(row for row in rows if row[1] == "launch/quickstart.sh")
    errors, figures = [], set()
    for row in [*rows, again]:
        if "tests/bench/run.sh" in row[1] and not {0, 1} <= os.sched_getaffinity(0):
            print(f"left out: {row[1]}: it wants the cores 0 and 1", flush=True)
            continue
        if "--peer recbole" in row[1] and not (ROOT / ".deps" / "venv-recbole").exists():
            print(f"left out: {row[1]}: there is no RecBole; launch/setup.sh --recbole installs it", flush=True)
            continue
        clone, error = try_in_clone(*row, here, shows=["ninja: no work to do."] if row is again and figures else [])
        if error:
            errors.append(error)
        elif "quickstart.sh" in row[1]:
            figures.add(str(json.loads((clone / "runs" / "ml-100k" / "result.json").read_text())["test"]))
    if why := why_no_tool("gdb"):
        print(f"left out: the commands of gdb: {why}", flush=True)
    else:
        errors += check_tool("gdb", here / "build" / "release" / "gru4rec")
    if len(figures) != 1:
        errors.append(f"quickstart.sh came to different figures: {sorted(figures)}")
    if not errors:
        shutil.rmtree(CLONES)
    return errors


def main():
    if sys.argv[1:2] == ["hosts"]:
        if why := why_no_hosts():
            print("skipped:", why)
            return 77
        errors = check_hosts(pathlib.Path(sys.argv[2]).resolve())
    elif sys.argv[1:2] == ["tool"]:
        if why := why_no_tool(sys.argv[2]):
            print("skipped:", why)
            return 77
        errors = check_tool(sys.argv[2], pathlib.Path(sys.argv[3]).resolve())
    elif sys.argv[1:2] == ["clone"]:
        errors = check_clones()
    elif sys.argv[1:2] == ["links"]:
        errors = check_links()
    elif sys.argv[1:2] == ["list"]:  # every command, to begin commands.tsv with
        for page in PAGES:
            for command in commands(page):
                print(page.name, "?", " ".join(command.split("\n")), sep="\t")
        return 0
    else:
        errors = check_commands(pathlib.Path(sys.argv[2]).resolve())
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
