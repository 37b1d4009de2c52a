#!/usr/bin/env bash
# Every row of docs/results.md that a training makes: trains launch/results.tsv over several seeds, writes tables and plots.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'HELP'
usage: launch/results.sh [--quick] [--data DIR] [--out DIR] [--seeds N] [--only REGEX] [--jobs N]

  --quick        the small version: one seed, everything but the yoochoose table
  --data DIR     folder of rsc15_100k.*.tsv.gz and yoochoose1_64.*.tsv.gz; default: data. ml-100k is fetched.
  --out DIR      where runs, tables and plots go; default: runs/results. What is finished there is not trained again.
  --seeds N      default: 3, and 5 for ml-100k; 1 with --quick
  --only REGEX   only rows whose "table row" matches, and the rows they begin with
  --jobs N       trainings side by side, each on a core of its own; default: the number of cores

Tables: DIR/results.md and results.tsv; plots: DIR/*.svg and *.png.
HELP
}

data=$ROOT/data out=$ROOT/runs/results arguments=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick) arguments+=(--quick) ;;
    --data | --out | --seeds | --only | --jobs)
      [[ $# -gt 1 ]] || die 2 "$1 wants a value; see launch/results.sh --help"
      case $1 in
        --data) data=$(realpath -m "$2") ;;
        --out) out=$(realpath -m "$2") ;;
        *) arguments+=("$1" "$2") ;;
      esac
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die 2 "unknown option '$1'; see launch/results.sh --help" ;;
  esac
  shift
done

cd "$ROOT"
run launch/setup.sh --results
run launch/fetch-ml-100k.sh
program=$(find_program)
run .deps/venv-results/bin/python launch/results.py --program "$program" --data "$data" --out "$out" "${arguments[@]}"
