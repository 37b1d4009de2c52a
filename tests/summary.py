#!/usr/bin/env python3
"""Reads JUnit files of ctest, prints the tests that failed or were skipped, with reasons, and the closing line.

usage: tests/summary.py [--tally FILE] JUNIT.xml ...

The closing line is `N passed, N failed, N skipped`. With --tally it goes, added up over all calls, to FILE as three numbers.
Exits with 1 if a test failed or none ran.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree


def reason(case):
    """The line that says why a test was skipped: GTEST_SKIP prints it below `Skipped`, scripts print `skipped: ...`."""
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.lower().startswith("skipped:"):
            return line[len("skipped:"):].strip()
        if re.search(r": Skipped$", line) and number + 1 < len(lines):
            return lines[number + 1]
    element = case.find("skipped")
    return element.get("message", "no reason given") if element is not None else "disabled"


def main(arguments):
    tally = None
    if arguments[:1] == ["--tally"]:
        tally, arguments = pathlib.Path(arguments[1]), arguments[2:]
    passed, failed, skipped = 0, [], []
    for path in arguments:
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            status = case.get("status")
            if status == "run":
                passed += 1
            elif status == "fail":
                failed.append(case.get("name"))
            else:
                skipped.append((case.get("name"), reason(case)))
    for name, why in skipped:
        print(f"skipped: {name}: {why}")
    for name in failed:
        print(f"FAILED: {name}")
    if tally:
        before = [int(number) for number in tally.read_text().split()] if tally.exists() else [0, 0, 0]
        total = [a + b for a, b in zip(before, (passed, len(failed), len(skipped)))]
        tally.write_text(" ".join(map(str, total)) + "\n")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


sys.exit(main(sys.argv[1:]))
