#!/usr/bin/env bash
# tests/bench/run.sh refuses wrong input before it does anything; its tables are right; one round of its cheapest sections works, and
# of those beside others with a stand-in for them (bench_peers.py). What is measured decides nothing.
# usage: bench_run_test.sh GRU4REC BENCH_STEP EVENT_FILES
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"
program=$(realpath "$1") step_program=$(realpath "$2") event_files=$(realpath "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

refuses() { # refuses TEXT OPTION…
  local output code=0
  output=$("$ROOT/tests/bench/run.sh" --out "$work/refused" "${@:2}" 2>&1) || code=$?
  [[ $code == 2 && $output == *"$1"* && $output != *"+ "* ]] || die 1 "run.sh ${*:2}: exit $code, wanted 2 and '$1': $output"
  [[ ! -e $work/refused ]] || die 1 "run.sh ${*:2} began before it refused"
}
refuses "unknown option '--quik'" --quik
refuses "--only got 'stp'" --only step,stp
refuses "needs --peer recbole" --only recbole
refuses "--peer got 'torch'" --peer torch
refuses "needs --gru4rec_code DIR" --peer gru4rec
refuses "there is no run.py" --peer gru4rec --gru4rec_code "$work"
refuses "--core got '9999'" --core 9999
refuses "--rounds got '0'" --rounds 0
refuses "--only wants a value" --only
refuses "--former got '$work/none'" --former "$work/none"

python3 "$(dirname "${BASH_SOURCE[0]}")/bench_tables_test.py"

sections=(step recbole gru4rec catalogues instructions ingest startup checkpoints)
mkdir "$work/code"
core=$(taskset -cp $$ | sed -E 's/.*: ([0-9]+).*/\1/')
python3 "$ROOT/tests/bench/run.py" --quick --program "$program" --step_program "$step_program" \
  --event_files "$event_files" --former "$program" --out "$work/out" --core "$core" \
  --recbole_python "$ROOT/tests/launch/bench_peers.py" --gru4rec_code "$work/code" \
  "${sections[@]}" >"$work/tables" 2>"$work/log" || die 1 "run.py failed: $(tail -n 3 "$work/log")"
for row in "step ÷ (products + exp)" "softmax ÷ (softmax_products + exp)" "libtorch ÷ step" "10,000 items | µs a target" "peak memory" \
  "targets/s of processor time, RecBole" "**gru4rec ÷ RecBole**" "RecBole did not reach" \
  "targets/s of processor time, official GRU4Rec" "**gru4rec ÷ official GRU4Rec, processor time**" \
  "events.csv | million events/s" "text.parquet | million events/s" "former ÷ this" '`gru4rec --version`' '`gru4rec-torch --version`' "two steps done" \
  "in the background, all cores | s that training waits" "**% of the time, one a minute**"; do
  grep -qF -- "$row" "$work/tables" || die 1 "the tables lack '$row': $(<"$work/tables")"
done
cmp -s "$work/tables" <(python3 "$ROOT/tests/bench/run.py" --tables --out "$work/out" "${sections[@]}" 2>/dev/null) ||
  die 1 "--tables made other tables of the same measurements"
