#!/usr/bin/env bash
# Laws of launch/mpirun.sh: exit codes come through; TERM, INT, HUP and USR1 let the ranks leave by themselves, with 138; TERM
# again ends them; what is wrong on its command line is said with exit code 2.
source "$(dirname "$0")/lib.sh"

"$MPIRUN" -np 3 -- >"$LOG" 2>&1
expect_code 2 $? "no command"
"$MPIRUN" -- train >"$LOG" 2>&1
expect_code 2 $? "no -np"
expect_text "-np N"
"$MPIRUN" -np two -- train >"$LOG" 2>&1
expect_code 2 $? "-np two"
expect_text "got 'two'"
"$MPIRUN" -np 2 --hostfile "$WORK/none" -- train >"$LOG" 2>&1
expect_code 2 $? "no such hostfile"
GRU4REC=$WORK/none "$MPIRUN" -np 2 -- train >"$LOG" 2>&1
expect_code 2 $? "no such program"

"$MPIRUN" -np 2 --mca some_name 7 --dry-run -- train --data_path 'a b' >"$LOG" 2>&1
expect_code 0 $? "dry run"
expect_text "mpirun -np 2 "
expect_text "--mca some_name 7 $GRU4REC train --data_path a\\ b"

"$MPIRUN" -np 3 -- show >"$LOG" 2>&1
expect_code 0 $? "three ranks"
expect_text "rank 2 of 3 on $(hostname), local rank 2"
expect_text "exchanged"
"$MPIRUN" -np 3 -- throw >"$LOG" 2>&1
expect_code 2 $? "a rank with a UserError"
expect_text "thrown on purpose"

# Job control gives the script a process group of its own and lets it see INT, which `&` alone ignores.
set -m
for signals in TERM INT HUP USR1 'TERM TERM'; do
  : >"$LOG" # here, not by the child: it may still hold what the last job said
  "$MPIRUN" -np 2 -- wait >"$LOG" 2>&1 &
  job=$!
  wait_for_text 2 waits
  read -r first second <<<"$signals"
  kill -s "$first" "$job"
  [[ -z $second ]] || { sleep 0.3 && kill -s "$second" "$job"; }
  wait "$job"
  code=$?
  if [[ -z $second ]]; then
    expect_code 138 $code "$first"
    expect_text "saved on signal 10"
  else
    expect_code 1 $code "$signals"
    ! grep -q "saved" "$LOG" || fail "a second TERM did not end the ranks at once"
  fi
done
