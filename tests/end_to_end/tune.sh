#!/usr/bin/env bash
# Law: a trial of tune is the run that its options alone would make, whoever trains it and whatever stops the tuning; the best on
# valid is handed on.
source "$(dirname "$0")/lib.sh"
make_data 120
ingest
printf '# a comment\nlearning_rate choice [0.01, 0.001]\ndropout_prob choice [0.0,0.4]\n' >space
BASE=(tune "${OPTIONS[@]}" --epochs 3 --replicas 2)
TUNE=("${BASE[@]}" --params_file space)
table() { cut -f 1,2,3,4 "$1/tune/trials.tsv"; }

"${MPIRUN[@]}" -np 2 "$PROGRAM" "${TUNE[@]}" --run_dir two >two.out 2>two.log || fail "two ranks: $(<two.log)"
expect_equal "rows of the table" "$(wc -l <two/tune/trials.tsv)" 5
best=$(tail -n +2 two/tune/trials.tsv | sort -t $'\t' -k 4,4gr -k 1,1 | head -n 1 | cut -f 1)
expect_line two.out "^best of 4: $best: .*two/tune/best.yaml$"
# The best options are those of a run of one's own.
"$PROGRAM" train --config two/tune/best.yaml --run_dir own >own.log 2>&1
expect_equal "digest of $best" "$(digest "two/tune/$best")" "$(digest own)"

# Two ranks to a trial, one such group or two at once, and one process: the same table.
for ranks in 2 4; do
  "${MPIRUN[@]}" -np $ranks "$PROGRAM" "${TUNE[@]}" --run_dir pair$ranks --ranks_per_trial 2 >pair.out 2>&1 || fail "pairs: $(<pair.out)"
  expect_line pair.out "4 trials in .*, $((ranks / 2)) at once, 2 rank\(s\) each"
  expect_equal "table of two ranks to a trial, $ranks ranks" "$(table pair$ranks)" "$(table two)"
done

# A trial that another process holds is left to it; a stopped tuning goes on to the same table.
mkdir -p alone/tune/trial-0002
exec 9>alone/tune/trial-0002/.trial.lock
flock 9
rows() { [[ -e alone/tune/trials.tsv && $(wc -l <alone/tune/trials.tsv) == "$1" ]]; }
"$PROGRAM" "${TUNE[@]}" --run_dir alone >alone.log 2>&1 9>&- &
job=$!
wait_until "the three other trials" rows 4
[[ ! -e alone/tune/trial-0002/config.yaml ]] || fail "a trial that is held was trained"
kill -USR1 "$job"
expect_code 138 wait "$job"
exec 9>&-
"$PROGRAM" "${TUNE[@]}" --run_dir alone >alone.2.log 2>&1 || fail "goes on: $(<alone.2.log)"
expect_equal "table of a tuning that was stopped" "$(table alone)" "$(table two)"

# What cannot be is said before anything is trained.
refused() { # refused PATTERN OPTION…
  local pattern=$1
  shift
  expect_code 2 "$PROGRAM" "${BASE[@]}" --run_dir refused "$@" >refused.log 2>&1
  expect_line refused.log "$pattern"
  [[ ! -e refused/tune ]] || fail "something was trained: $*"
}
echo 'learning_rate choise [0.1]' >bad
refused "bad:1: got 'choise' for learning_rate, .* did you mean 'choice'" --params_file bad
echo 'lerning_rate choice [0.1]' >bad
refused "unknown option '[a-z_]+' \(bad:[0-9]+\); did you mean 'learning_rate'" --params_file bad
echo 'dropout_prob choice [0.1,1.5]' >bad
refused "dropout_prob 1.5: option 'dropout_prob' \(bad:[0-9]+\): got '1.5', wanted" --params_file bad
echo 'dropout_prob uniform 0,0.5' >bad
refused "cannot read the search space nowhere: No such file" --params_file nowhere
refused "bad has options with a range" --params_file bad
refused "max_evals: got 3 with --algo exhaustive" --params_file space --max_evals 3
refused "eval_step is 0" --params_file space --eval_step 0
expect_code 2 "$PROGRAM" "${TUNE[@]}" --run_dir two --epochs 4 >other.log 2>&1
expect_line other.log "two/tune/trial-0001 is of another tuning \(epochs: 3 → 4\)"

# A trial that diverges is noted, and the others go on; also where several ranks train it.
printf 'learning_rate choice [1e38,0.01]\nlearner choice [sgd]\n' >diverges
for ranks in 1 2; do
  "${MPIRUN[@]}" -np $ranks "$PROGRAM" "${BASE[@]}" --params_file diverges --ranks_per_trial $ranks --run_dir nan$ranks >nan.log 2>&1 ||
    fail "a trial that diverges ends the tuning: $(<nan.log)"
  expect_line nan$ranks/tune/trials.tsv '^trial-0001.*failed$'
  expect_line nan$ranks/tune/trial-0001/failed.txt 'not finite'
  [[ -s nan$ranks/tune/trial-0001/report.html ]] || fail "no report of a run that diverged"
  expect_line nan.log '^best of 2: trial-0002'
done

# Drawn at random, by the seed.
"$PROGRAM" "${BASE[@]}" --epochs 1 --params_file bad --algo random --max_evals 2 --run_dir drawn >drawn.log 2>&1 || fail "$(<drawn.log)"
expect_equal "trials drawn" "$(wc -l <drawn/tune/trials.tsv)" 3
