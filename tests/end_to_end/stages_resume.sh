#!/usr/bin/env bash
# Law: a command of several stages that is killed or told to stop in any of them, and goes on on another number of ranks, ends
# with the digests of one that was never disturbed; what a later stage would be refused for is refused before anything is trained.
source "$(dirname "$0")/lib.sh"
prepare_stages
OPTIONS+=(--epochs 40) # long enough to be disturbed in, also where finding a process takes a while
P=$PROGRAM
digests() { for run in "$1/teacher" "$1" "$1/adapted"; do digest "$run"; done; }
train 1 three --teacher auto "${ADAPT[@]}"
wanted=$(digests three)

# Stopped between two stages: one that is done is not started again, one whose folder is empty begins.
cp -r three between
rm -r between/checkpoints between/adapted/checkpoints
train 2 between --resume --teacher auto "${ADAPT[@]}"
expect_equal "digests of a run stopped after its first stage" "$(digests between)" "$wanted"
! grep -q 'starting anew' between.log || fail "a stage that had not begun yet was called a new start"

# Killed in each stage, and gone on with on another number of ranks.
newest() { (ls "$1/checkpoints" 2>/dev/null || true) | tail -n 1; }
ranks_of() { pgrep -f "train .*--run_dir $1 " | while read -r pid; do
  is_rank "$pid" && echo "$pid"; done || true; }
# disturb SIGNAL CODE RANKS STAGE_FOLDER: starts or resumes the run `disturbed`, signals when that stage has saved something
disturb() {
  local before job
  before=$(newest "$4")
  "${MPIRUN[@]}" -np "$3" "$P" train "${OPTIONS[@]}" --run_dir disturbed --resume --teacher auto "${ADAPT[@]}" --checkpoint_steps 1 \
    >disturbed.log 2>&1 &
  job=$!
  for ((i = 0; i < 3000; ++i)); do
    [[ $(newest "$4") == "$before" ]] || break
    sleep 0.01
  done
  if [[ $1 == KILL ]]; then kill -KILL "$(ranks_of disturbed | tail -n 1)"; else kill -s "$1" "$job"; fi
  expect_code "$2" wait "$job"
}
disturb KILL 137 2 disturbed/teacher
[[ -z $(newest disturbed) ]] || fail "the teacher was not killed while it was trained"
disturb USR1 138 1 disturbed/teacher
[[ -z $(newest disturbed) ]] || fail "the teacher was not stopped while it was trained"
disturb KILL 137 2 disturbed
[[ -z $(newest disturbed/adapted) ]] || fail "the student was not killed while it was trained"
disturb USR1 138 1 disturbed
expect_line disturbed.log 'stopped by signal 10'
! grep -q '^stage 1 of 3' disturbed.log || fail "a teacher that was done was started again"
disturb KILL 137 2 disturbed/adapted
disturb USR1 138 1 disturbed/adapted
expect_line disturbed.log 'stopped by signal 10'
! grep -q '^stage [12] of 3' disturbed.log || fail "a stage that was done was started again"
train 2 disturbed --resume --teacher auto "${ADAPT[@]}"
expect_equal "digests of a run disturbed in each stage" "$(digests disturbed)" "$wanted"
expect_equal "last line of the disturbed run" "$(tail -n 1 disturbed.log)" "$(tail -n 1 three.log)"

# All stages have the replicas of the first start.
SHORT=(--teacher auto --adapt_fraction 1/2 --adapt_epochs 1 --epochs 1 --replicas 0)
train 2 short "${SHORT[@]}"
rm -r short/adapted/checkpoints
cp -r short continued
train 2 short "${SHORT[@]}" --resume
train 1 continued "${SHORT[@]}" --resume
expect_equal "digest after a start on fewer ranks" "$(digest continued/adapted)" "$(digest short/adapted)"
"$P" train "${OPTIONS[@]}" --run_dir debug "${SHORT[@]}" --replicas 2 --debug >debug.log 2>&1
expect_equal "digest of debug mode" "$(digest debug/adapted)" "$(digest short/adapted)"

# A run that was trained further after its adaptation began: the adaptation stays what it was, and says so.
LATER=(--epochs 1 --eval_step 0 --adapt_epochs 1)
train 1 later "${LATER[@]}" --adapt_fraction 1/2
adapted=$(digest later/adapted)
train 1 later "${LATER[@]}" --epochs 2 --resume
train 1 later "${LATER[@]}" --epochs 2 --resume --adapt_fraction 1/2
expect_equal "digest of an adaptation that is done" "$(digest later/adapted)" "$adapted"
expect_line later.log 'later/adapted began with later/checkpoints/step-[0-9]+.h5 \(digest [0-9a-f]+\), the best checkpoint is now later/checkpoints/step-[0-9]+.h5'
# The same of one that was trained anew, with as many steps.
rm -r later/checkpoints
train 1 later "${LATER[@]}" --learning_rate 0.02
train 1 later "${LATER[@]}" --learning_rate 0.02 --resume --adapt_fraction 1/2
expect_equal "digest of an adaptation of a model that is gone" "$(digest later/adapted)" "$adapted"
expect_line later.log 'later/adapted began with later/checkpoints/(step-[0-9]+.h5) .*the best checkpoint is now later/checkpoints/\1'

# Refused before anything is trained.
refused() { # refused PATTERN RUN [OPTION…]
  local pattern=$1 run=$2 code=0 before
  shift 2
  before=$(newest "$run/teacher")$(newest "$run")
  "$P" train "${OPTIONS[@]}" --run_dir "$run" "$@" >refused.log 2>&1 || code=$?
  expect_equal "exit code of $run" "$code" 2
  expect_line refused.log "$pattern"
  expect_equal "newest checkpoints of $run" "$(newest "$run/teacher")$(newest "$run")" "$before"
}
mkdir -p used1/teacher used2/adapted
cp -r three/teacher/checkpoints used1/teacher
cp -r three/adapted/checkpoints used2/adapted
refused 'used1/teacher/checkpoints already holds a run' used1 --teacher auto "${ADAPT[@]}"
refused 'used2/adapted/checkpoints already holds a run' used2 --teacher auto "${ADAPT[@]}"
refused 'used2/adapted/checkpoints holds checkpoints, used2/checkpoints, which .* does not' used2 --resume "${ADAPT[@]}"
refused 'cannot begin with the weights of three/.*init_from' unequal --teacher auto --init_from three --hidden_size 25
refused 'three/adapted/checkpoints/.*recent_fraction: 0.25 → 0.125' three --resume --teacher auto "${ADAPT[@]}" --adapt_fraction 1/8
expect_line refused.log 'recent_fraction, epochs and learning_rate are adapt_fraction'
refused "option 'teacher': there is no file atuo" typo --teacher atuo
ingest --store whole --eval_args '{split: {LS: valid_and_test}}'
refused 'teacher auto: a teacher cannot be evaluated on a store that was split leave one out' leave --store whole --teacher auto
