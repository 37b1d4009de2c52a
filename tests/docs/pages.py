#!/usr/bin/env python3
"""README and docs hold: links lead somewhere, pictures are shown, files that are named exist, and commands run.

usage: tests/docs/pages.py links
       tests/docs/pages.py commands PROGRAM
       tests/docs/pages.py hosts PROGRAM

Commands are the lines of indented code blocks. tests/docs/commands.tsv says of each how it is tried: in a folder with data and
a store (fresh), in one that has a trained run too (trained), where the command above it left off (after), or what else runs it.
Data, and what stands for a reader's own (DATA, SEED, ...), are made up, so that all of it takes about a minute. Those for two
machines (hosts) are run on two hosts made of network namespaces, and so are those with a hostfile: there the hosts' own script
stands for launch/mpirun.sh and launch/supervise.sh, as it takes the place of ssh. A command that is not in that file, or no
longer in a page, is an error.
"""
import gzip
import os
import pathlib
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LIST = ROOT / "tests" / "docs" / "commands.tsv"
TEST = re.compile(r"(EndToEnd|Cluster|Fault|Launch|StoreDocuments)\.(\w+)$")
HOW = re.compile(rf"(fresh|trained|after|hosts|not run: .+|by (hand|\.ci/run)\b.*)$|{TEST.pattern}")
# What stands in a command for a reader's own; DATA, LISTS and NAME are there as folders of these names and made-up files.
STANDS_FOR = {" SEED": " 7", " ROW": " --epochs 2"}
COMMAND = re.compile(r"([A-Z_]+=\S+ )*(gru4rec|\.ci/|build/|launch/|tests/|cluster/|mpirun|git|cmake|python|perf|sbatch|export|"
                     r"chromium|tensorboard|gdb|printf|for|echo)\b")

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
    for name in ["configs", "launch", "cluster", "tests", "docs"]:
        (folder / name).symlink_to(ROOT / name)
    (folder / "build" / "release").mkdir(parents=True)
    (folder / "build" / "release" / "gru4rec").symlink_to(program)
    (folder / ".deps").mkdir()
    for name in (ROOT / ".deps").glob("venv*"):
        (folder / ".deps" / name.name).symlink_to(name)
    (folder / "bin").mkdir()
    (folder / "bin" / "gru4rec").symlink_to(program)
    draw = random.Random(7)
    for data, first, last in [("ml-100k", 0, 60), ("my", 0, 60)]:
        place = folder / ".deps" / "data" / data
        place.mkdir(parents=True)
        with open(place / f"{data}.inter", "w") as file:
            print("user_id:token", "item_id:token", "rating:float", "timestamp:float", sep="\t", file=file)
            for user in range(first, last):
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


def run(folder, command, **more):
    """What went wrong, or None. `more`: of the environment."""
    for word, value in STANDS_FOR.items():
        command = command.replace(word, value)
    environment = dict(os.environ, PATH=f"{folder}/bin:{os.environ['PATH']}", OMP_NUM_THREADS="1",
                       OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    environment.pop("GRU4REC", None)
    environment.update(more)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    return None if done.returncode == 0 else f"exit code {done.returncode}:\n{done.stdout[-1500:]}"


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
                if how not in ("fresh", "trained", "after"):
                    continue
                if how != "after":
                    shutil.rmtree(work, ignore_errors=True)
                    shutil.copytree(fresh if how == "fresh" else trained, work, symlinks=True)
                tried += 1
                if error := run(work, command):
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
    how_tried = listed()
    every = [(page.name, command, how_tried.get((page.name, " ".join(command.split("\n")))))
             for page in PAGES for command in commands(page)]
    literal = [row for row in every if row[2] == "hosts"]
    others = [row for row in every if row[2] in ("fresh", "trained") and "--hostfile hosts" in row[1]]
    errors = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_folder(folder, program)
        more = {"GRU4REC": str(program), "TESTHOSTS": f"page{os.getpid()}x"}
        for step in STORES:
            if error := run(folder, step):
                return [f"{step}: {error}"]
        try:
            for page, command, how in [*literal[:-1], *others, literal[-1]]:
                if how != "hosts":
                    shutil.rmtree(folder / "runs", ignore_errors=True)
                    command = re.sub(r"launch/(mpirun|supervise)\.sh", r"cluster/testhosts.sh \1", command)
                if error := run(folder, command, **more):
                    errors.append(f"{page}: {command}\n  {error}")
        finally:
            run(folder, "cluster/testhosts.sh down", **more)
    print(f"{len(literal) + len(others)} commands were run on two hosts")
    return errors


def main():
    if sys.argv[1:2] == ["hosts"]:
        if why := why_no_hosts():
            print("skipped:", why)
            return 77
        errors = check_hosts(pathlib.Path(sys.argv[2]).resolve())
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
