#!/usr/bin/env bash
# Law: a rank that is killed, or stopped for longer than comm_timeout, ends the job in time, with its name; nothing is lost but
# what came after the last checkpoint.
source "$(dirname "$0")/lib.sh"
make_data
ingest
ranks_of() { pgrep -f "train .*--run_dir $1 " | while read -r pid; do
  [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == "$(readlink -f "$PROGRAM")" ]] && echo "$pid"; done || true; }
for what in KILL STOP; do
  for rank in 0 2; do
    run=$what$rank
    timeout -k 5 60 "${MPIRUN[@]}" -np 3 "$PROGRAM" train "${OPTIONS[@]}" --run_dir "$run" --replicas 3 --epochs 100000 \
      --stopping_step 100000 --comm_timeout 4 >"$run.log" 2>&1 &
    job=$!
    wait_for_step "$run"
    victim=$(ranks_of "$run" | while read -r pid; do
      tr '\0' '\n' <"/proc/$pid/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$rank" && echo "$pid"; done || true)
    [[ -n $victim ]] || fail "rank $rank of $run was not found"
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
