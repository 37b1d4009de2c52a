#!/usr/bin/env bash
# The whole test command: dependencies, a build with warnings as errors, all tests. The last line is
# `N passed, N failed, N skipped`; the exit code is 0 only if all that ran passed.
#
# usage: [TALLY=FILE] tests/run.sh [CTEST ARGUMENT…]      e.g. tests/run.sh -R Store   tests/run.sh -L mpi
# TALLY: a file to which the three numbers are added, for .ci/run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../launch/lib.sh"
cd "$ROOT"

launch/setup.sh --tests --no-build
launch/fetch-ml-100k.sh # RecBole's splits are held against the real data
export GRU4REC_TEST_PYTHON=${GRU4REC_TEST_PYTHON:-$ROOT/.deps/venv-tests/bin/python}
cmake --preset ci >/dev/null
cmake --build --preset ci
junit=$ROOT/build/ci/junit.xml
rm -f "$junit"
status=0
# Tests that start several processes say so (PROCESSORS), and ctest leaves the cores to them.
ctest --preset ci --parallel "$(nproc)" --no-tests=error --output-junit "$junit" "$@" </dev/null || status=$?
[[ -f $junit ]] || die 3 "ctest ended with $status and wrote no results, see above"
python3 tests/summary.py ${TALLY:+--tally "$TALLY"} "$junit" || status=1
exit "$status"
