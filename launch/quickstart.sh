#!/usr/bin/env bash
# From an empty clone to the Recall@20 and MRR@20 of a trained model: set-up, ml-100k, ingest, training on two ranks.
# Each command is printed before it runs. What is already there is used, a run that was interrupted or is done, too; options go to
# setup.sh (--cpu, --cuda).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

run launch/setup.sh "$@"
run launch/fetch-ml-100k.sh
program=$(find_program)
run "${program#"$ROOT"/}" ingest --config configs/ml-100k.yaml --data_path .deps/data
run launch/mpirun.sh -np 2 -- train --config configs/ml-100k.yaml --data_path .deps/data --resume
