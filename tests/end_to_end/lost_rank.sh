#!/usr/bin/env bash
# Law: a rank that is killed, or stopped for longer than comm_timeout, ends the job in time, with its name; nothing is lost but
# what came after the last checkpoint.
source "$(dirname "$0")/lib.sh"
make_data
ingest
for what in KILL STOP; do
  for rank in 0 2; do
    run=$what$rank
    timeout -k 5 60 "${MPIRUN[@]}" -np 3 "$PROGRAM" train "${OPTIONS[@]}" --run_dir "$run" --replicas 3 --epochs 100000 \
      --stopping_step 100000 --comm_timeout 4 >"$run.log" 2>&1 &
    job=$!
    wait_for_step "$run"
    victim=$(pid_of_rank "$run" "$rank")
    kill -s "$what" "$victim"
    start=$SECONDS
    code=0
    wait "$job" || code=$?
    ((SECONDS - start < 30)) || fail "$run took $((SECONDS - start)) s to end"
    kill -KILL "$victim" 2>/dev/null || true
    if [[ $what == KILL ]]; then
      expect_equal "exit code of $run" "$code" 137
    else
      expect_equal "exit code of $run" "$code" 3
      expect_line "$run.log" "rank $rank \(host [^ ]+, pid $victim\)"
    fi
    [[ -n $(digest "$run") ]] || fail "$run left no checkpoint that holds"
  done
done
