#!/usr/bin/env bash
# Law: USR1, TERM and INT make a run save and leave with 128 + signal; it goes on from there to the digest of an undisturbed run.
source "$(dirname "$0")/lib.sh"
make_data
ingest
"$PROGRAM" train "${OPTIONS[@]}" --run_dir whole --replicas 2 --epochs 40 >whole.log 2>&1
wanted=$(digest whole)
for signal in USR1 TERM INT; do
  run=single$signal
  "$PROGRAM" train "${OPTIONS[@]}" --run_dir "$run" --replicas 2 --epochs 40 >"$run.log" 2>&1 &
  job=$!
  wait_for_step "$run"
  kill -s "$signal" "$job"
  expect_code $((128 + $(kill -l "$signal"))) wait "$job"
  expect_line "$run.log" "after saving step"
  "$PROGRAM" train "${OPTIONS[@]}" --run_dir "$run" --replicas 2 --epochs 40 --resume >"$run.2.log" 2>&1
  expect_equal "digest after $signal" "$(digest "$run")" "$wanted"
done
# Under mpirun, which forwards USR1 at once.
"${MPIRUN[@]}" -np 2 "$PROGRAM" train "${OPTIONS[@]}" --run_dir mpi --replicas 2 --epochs 40 >mpi.log 2>&1 &
job=$!
wait_for_step mpi
kill -s USR1 "$job"
expect_code 138 wait "$job"
train 1 mpi --replicas 2 --epochs 40 --resume
expect_equal "digest after USR1 to mpirun" "$(digest mpi)" "$wanted"
# launch/mpirun.sh turns TERM into USR1.
"$SOURCE/launch/mpirun.sh" -np 2 -- train "${OPTIONS[@]}" --run_dir script --replicas 2 --epochs 40 >script.log 2>&1 &
job=$!
wait_for_step script
kill -s TERM "$job"
expect_code 138 wait "$job"
train 1 script --replicas 2 --epochs 40 --resume
expect_equal "digest after TERM to launch/mpirun.sh" "$(digest script)" "$wanted"
