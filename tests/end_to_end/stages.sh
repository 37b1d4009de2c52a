#!/usr/bin/env bash
# Law: a command of several stages ends with the digests of the same runs made one by one, on any number of ranks; each option of
# the adaptation changes its digest.
source "$(dirname "$0")/lib.sh"
prepare_stages
BY_HAND=(--recent_fraction 1/4 --epochs 40 --learning_rate 0.005)
P=$PROGRAM
last() { tail -n 1 "$1.log"; }
# expect_digests WHAT RUN…: of the stages' folders
expect_digests() { expect_equal "digests of $1" "$(for run in "${@:2}"; do digest "$run"; done)" "$wanted"; }

# One by one.
train 2 teacher --direction backward
train 2 student --teacher teacher
train 2 adapted --teacher teacher --init_from student "${BY_HAND[@]}"
wanted=$(for run in teacher student adapted; do digest "$run"; done)

# The same in one command, on one rank and on two.
train 1 three --teacher auto "${ADAPT[@]}"
expect_digests "three stages" three/teacher three three/adapted
expect_equal "last line of three stages" "$(last three)" "$(last adapted)"
expect_line three.log '^stage 1 of 3: teacher in three/teacher$'
expect_line three.log '^stage 2 of 3: training in three$'
expect_line three.log '^stage 3 of 3: adaptation in three/adapted$'
expect_equal "evaluate of the adapted run" "$("$P" evaluate --checkpoint three/adapted 2>/dev/null)" "$(last adapted)"
for run in three/teacher three three/adapted; do
  [[ -s $run/config.yaml && -s $run/metrics.jsonl && -s $run/result.json ]] || fail "$run lacks a file"
done
expect_equal "the result of the second stage" "$(sed -n '/"test"/,/}/p' three/result.json)" "$(sed -n '/"test"/,/}/p' student/result.json)"
"${MPIRUN[@]}" -np 2 "$P" train --config three/config.yaml --run_dir again --checkpoint_dir again/checkpoints >again.log 2>&1
expect_digests "the command of three/config.yaml, repeated" again/teacher again again/adapted

# What each option of the adaptation changes, and that a stage that is done is not trained again.
train 1 plain
train 1 plain.adapted --init_from plain "${BY_HAND[@]}"
"$P" train "${OPTIONS[@]}" --run_dir two "${ADAPT[@]}" >two.out 2>two.log
expect_equal "digest of two stages" "$(digest two/adapted)" "$(digest plain.adapted)"
expect_equal "standard output of two stages" "$(<two.out)" "$(last plain.adapted)"
digests=$(digest two/adapted)
for other in '--adapt_fraction 1/2' '--adapt_epochs 41' '--adapt_learning_rate 0.5'; do
  cp -r plain changed
  # shellcheck disable=SC2086
  train 2 changed --resume "${ADAPT[@]}" $other
  expect_equal "the first stage after $other" "$(digest changed)" "$(digest plain)"
  [[ $other != *rate* ]] || expect_line changed.log 'the adapted model is not better on valid: MRR@10 is 0\.[0-9]+, that of the model it began with is 0\.[0-9]+'
  digests+=$'\n'$(digest changed/adapted)
  rm -r changed
done
expect_equal "different digests" "$(sort -u <<<"$digests" | wc -l)" 4

# The table of a run on constant item embeddings comes from the stage before.
train 1 embedding --loss_type cosine_embedding --score cosine --freeze_item_embeddings true --item_embeddings_from plain --epochs 2 "${ADAPT[@]}" --adapt_epochs 1
[[ -s embedding/adapted/result.json ]] || fail "a model of predicted item embeddings was not adapted"
