#!/usr/bin/env bash
# Law: TensorBoard reads of a run's event files what its other files say, and of a run that was interrupted, wherever and by how
# many ranks it went on, the scalars of the run that was not, but for times.
source "$(dirname "$0")/lib.sh"
PYTHON=${GRU4REC_TEST_PYTHON:-python3}
"$PYTHON" -c 'import tensorboard.backend.event_processing.event_accumulator' 2>import.log ||
  { echo "skipped: $PYTHON has no tensorboard ($(tail -n 1 import.log)); launch/setup.sh --tests installs it"; exit 77; }
scalars() { "$PYTHON" "$SOURCE/tests/end_to_end/event_scalars.py" "$@" 2>scalars.log || { cat scalars.log >&2; fail "the event files of $1"; }; }
# forget RUN STEP: as if the run had been killed after its last record and its newest checkpoint were that of STEP
forget() {
  local file step
  for file in "$1"/checkpoints/step-*.h5; do
    step=$(basename "${file#*step-}" .h5)
    [[ $((10#$step)) -le $2 ]] || rm "$file"
  done
  rm -f "$1/result.json"
}
make_data
ingest
KEEP=(--checkpoint_steps 3 --keep_checkpoints 100)
train 1 whole "${KEEP[@]}" || fail "whole: $(<whole.log)"
scalars whole >whole.tsv
expect_equal "tags of one rank" "$(scalars whole all | cut -d ' ' -f 1 | sort -u | grep -c '^rank_')" 1
steps=$(grep -c '^train/loss ' whole.tsv)
[[ $steps -gt 20 ]] || fail "a run of $steps steps has nothing to cut"

train 2 cut "${KEEP[@]}" || fail "cut: $(<cut.log)"
expect_equal "scalars of two ranks" "$(scalars cut)" "$(<whole.tsv)"
expect_equal "ranks with a throughput" "$(scalars cut all | cut -d ' ' -f 1 | sort -u | grep -c '^rank_')" 2
for last in 15 9; do # in the midst of an epoch, and before that
  forget cut $last
  newest=$(find cut/tensorboard -type f | sort | tail -n 1)
  truncate -s -5 "$newest" # a record that was not written to its end
  train 2 cut "${KEEP[@]}" --resume || fail "resumed: $(<cut.log)"
  expect_line cut.log "resumed from .*step-0*$last\.h5"
  expect_equal "scalars of a run resumed at step $last" "$(scalars cut)" "$(<whole.tsv)"
done
# Killed before its first checkpoint, it starts anew.
forget cut 0
train 1 cut "${KEEP[@]}" --resume || fail "anew: $(<cut.log)"
expect_equal "scalars of a run that started anew" "$(scalars cut)" "$(<whole.tsv)"
expect_equal "event files" "$(find cut/tensorboard -type f | wc -l)" 1
