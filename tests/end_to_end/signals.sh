#!/usr/bin/env bash
# Law: USR1, TERM and INT make a run save and leave with 128 + signal; it goes on from there to the digest of an undisturbed run.
#
# The runs have no end of their own; how long all of them are is decided once the last of them has stopped.
source "$(dirname "$0")/lib.sh"
make_data
ingest
TRAIN=(train "${OPTIONS[@]}" --replicas 2 --stopping_step 1000000)
endless=(--epochs 1000000)
runs=()
# stopped RUN SIGNAL CODE: the job that runs, told to stop by SIGNAL, saves and ends with CODE
stopped() {
  runs+=("$1")
  wait_for_step "$1"
  kill -s "$2" "$job"
  expect_code "$3" wait "$job"
  expect_line "$1.log" "after saving step"
  [[ -s $1/report.html ]] || fail "no report of $1"
}

for signal in USR1 TERM INT; do
  "$PROGRAM" "${TRAIN[@]}" --run_dir "single$signal" "${endless[@]}" >"single$signal.log" 2>&1 &
  job=$!
  stopped "single$signal" "$signal" $((128 + $(kill -l "$signal")))
done
# Under mpirun, which forwards USR1 at once.
"${MPIRUN[@]}" -np 2 "$PROGRAM" "${TRAIN[@]}" --run_dir mpi "${endless[@]}" >mpi.log 2>&1 &
job=$!
stopped mpi USR1 138
# launch/mpirun.sh turns TERM into USR1.
"$SOURCE/launch/mpirun.sh" -np 2 -- "${TRAIN[@]}" --run_dir script "${endless[@]}" >script.log 2>&1 &
job=$!
stopped script TERM 138

epochs=0
for run in "${runs[@]}"; do
  last=$(last_epoch "$run")
  ((epochs >= last + 2)) || epochs=$((last + 2)) # it may have stopped within the epoch after its last line
done
"$PROGRAM" "${TRAIN[@]}" --run_dir whole --epochs "$epochs" >whole.log 2>&1
for run in "${runs[@]}"; do
  "$PROGRAM" "${TRAIN[@]}" --run_dir "$run" --epochs "$epochs" --resume >"$run.2.log" 2>&1
  expect_equal "digest after $run was stopped, $epochs epochs" "$(digest "$run")" "$(digest whole)"
done
