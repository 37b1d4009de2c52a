#!/usr/bin/env bash
# Every row of launch/results.tsv and every configuration has options that the program takes: it only misses the data.
# usage: results_rows_test.sh PROGRAM
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
program=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

expect_only_data_missing() { # expect_only_data_missing WHAT CONFIG OPTION…
  local output code=0
  output=$("$program" train --config "$2" --store nowhere --run_dir run "${@:3}" 2>&1) || code=$?
  [[ $code == 2 && $output == *"there is no file nowhere/manifest.h5"* ]] || die 1 "$1: exit $code: $output"
}

rows=0
while IFS=$'\t' read -r table row config options; do
  [[ -n $table && $table != \#* ]] || continue
  eval "arguments=($(sed 's/{[^}]*}/before/g' <<<"$options"))"
  expect_only_data_missing "$table, $row" "$ROOT/configs/$config.yaml" "${arguments[@]}"
  rows=$((rows + 1))
done <"$ROOT/launch/results.tsv"
[[ $rows -gt 20 ]] || die 1 "only $rows rows were read"

for config in "$ROOT"/configs/*.yaml; do
  expect_only_data_missing "$config" "$config"
done
