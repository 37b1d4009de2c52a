#!/usr/bin/env bash
# Law: a run that is SIGKILLed again and again at random moments and resumed on another number of ranks each time ends with the
# digest of the run that was never killed. KILLS=20 by default; the delays come from a fixed seed.
source "$(dirname "$0")/lib.sh"
make_data
ingest
train 2 whole --replicas 4 --epochs 12
wanted=$(digest whole)
kills=${KILLS:-20} killed=0
RANDOM=20
for ((i = 0; i < 200 && killed < kills; ++i)); do
  ranks=$((1 + i % 4))
  "${MPIRUN[@]}" -np "$ranks" "$PROGRAM" train "${OPTIONS[@]}" --run_dir run --replicas 4 --epochs 12 --checkpoint_steps 3 --resume \
    >"run$i.log" 2>&1 &
  job=$!
  sleep "$(printf '0.%03d' $((300 + RANDOM % 700)))"
  # One of the ranks; mpirun ends the others. A run that has ended already starts over from its beginning.
  victims=$(pgrep -f "train .*--run_dir run --replicas 4" | while read -r pid; do
    is_rank "$pid" && echo "$pid"; done || true)
  victim=$(shuf -n 1 --random-source=<(yes "$i") <<<"$victims")
  if [[ -n $victim ]] && kill -KILL "$victim" 2>/dev/null; then killed=$((killed + 1)); fi
  wait "$job" || true
done
expect_equal "number of kills" "$killed" "$kills"
train 3 run --replicas 4 --epochs 12 --checkpoint_steps 3 --resume
expect_equal "digest after $killed kills" "$(digest run)" "$wanted"
