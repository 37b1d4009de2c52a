#!/usr/bin/env python3
"""Law: every option has a test in which its value changes a result.

usage: option_tests.py GRU4REC BUILD_FOLDER

tests/options.tsv names the test of each option; the options are those of `gru4rec help --configuration`, the tests those of ctest."""

import json
import re
import subprocess
import sys
from pathlib import Path

program, build = sys.argv[1:]
run = lambda *command: subprocess.run(command, check=True, capture_output=True, text=True).stdout
options = set(re.findall(r"^\| `(\w+)` \|", run(program, "help", "--configuration"), re.MULTILINE))
tests = {test["name"].split("  # ")[0] for test in json.loads(run("ctest", "--test-dir", build, "--show-only=json-v1"))["tests"]}
table = Path(__file__).with_name("options.tsv")
named = dict(line.split("\t") for line in table.read_text().splitlines() if not line.startswith("#"))

wrong = [f"{option} has no line" for option in sorted(options - named.keys())]
wrong += [f"{option} is no option" for option in sorted(named.keys() - options)]
wrong += [f"{option}: there is no test {test}" for option, test in named.items() if test not in tests]
for each in wrong:
    print(f"{table.name}: {each}", file=sys.stderr)
print(f"{len(options)} options, {len(set(named.values()))} tests")
sys.exit(1 if wrong or not options else 0)
