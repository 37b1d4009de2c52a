#!/usr/bin/env bash
# Laws: `run` is ingest where there is no store, and train; a configuration of RecBole's users runs as it is. --dry_run writes
# nothing. --quiet leaves results and warnings. Options that a store was not made with are named.
source "$(dirname "$0")/lib.sh"
P=$PROGRAM
make_data 60
said() { # said LOG COMMAND…: its output in LOG, shown where it fails
  local log=$1
  shift
  "$@" >"$log" 2>&1 || { cat "$log" >&2; fail "$*"; }
}

# One command and two end with the same digest, on one rank and two; the second start takes the store that is there.
said once.log "$P" run "${OPTIONS[@]}" --replicas 2 --run_dir once
cp store/example/manifest.h5 manifest.before
said again.log "${MPIRUN[@]}" -np 2 "$P" run "${OPTIONS[@]}" --run_dir again
expect_line again.log 'store store/example is there'
said ingested.log "${MPIRUN[@]}" -np 2 "$P" run "${OPTIONS[@]}" --store fresh --run_dir ingested
ingest --store separate
train 1 separate-run --store separate --replicas 2
for run in again ingested separate-run; do expect_equal "digest of $run" "$(digest "$run")" "$(digest once)"; done
expect_equal "result" "$(tail -n 1 once.log)" "$(tail -n 1 separate-run.log)"

# A store that other options made is refused by run and named by train; it stays as it was.
expect_code 2 "$P" run "${OPTIONS[@]}" --min_item_support 3 --run_dir other >other.log 2>&1
expect_line other.log 'store/example was made with other options \(min_item_support: 1 → 3\)'
[[ ! -e other ]] || fail "a refused run leaves a folder"
train 1 warned --min_item_support 3 --epochs 1
expect_line warned.log 'min_item_support: 1 → 3 was asked for'
! grep -q 'was asked for' once.log separate-run.log || fail "a warning of options that the store was made with"
cmp store/example/manifest.h5 manifest.before || fail "the store was written again"

# A dry run: what it would take, on one rank and two, of each stage; nothing on disk, and the run itself is as without it.
for ranks in 1 2; do
  train "$ranks" dry --dry_run --epochs 7 --stopping_step 2
  [[ ! -e dry ]] || fail "a dry run leaves a folder"
  expect_line dry.log '^  epoch +[0-9]+ steps, [0-9]+ targets at [0-9]+ a second: [0-9.e-]+ s$'
  expect_line dry.log '^  evaluation +60 targets at [0-9]+ a second: [0-9.e-]+ s$'
  expect_line dry.log '^  training +7 epoch\(s\) to go at most: [0-9.]+ s, less if 3 evaluations bring nothing better$'
  expect_line dry.log '^  memory of a rank +[0-9.]+ MiB'
  expect_line dry.log '^  disk +[0-9]+ checkpoints'
done
train 1 none --dry_run --epochs 0 --learning_rate_schedule cosine
expect_line none.log '^none would take no step: 0 of 0 epochs are done'
cp -r once resumed
train 1 resumed --dry_run --resume --epochs 9 --replicas 2
expect_line resumed.log '^  training +[1-8] epoch\(s\) to go'
expect_equal "digest after a dry run" "$(digest resumed)" "$(digest once)"
train 1 adapting --dry_run --store separate --adapt_fraction 1/2 --adapt_epochs 2
expect_line adapting.log '^adapting would take'
expect_line adapting.log '^adapting/adapted would take'
[[ ! -e adapting ]] || fail "a dry run of stages leaves a folder"

# Quiet: the result alone, unless a log_level is spelt out.
train 1 quiet --quiet
expect_equal "lines with --quiet" "$(wc -l <quiet.log)" 1
train 1 loud --quiet --log_level info
expect_line loud.log 'epoch 1  loss'
said evaluated.log "$P" evaluate --checkpoint quiet --quiet
expect_equal "evaluate --quiet" "$(<evaluated.log)" "$(<quiet.log)"

# RecBole's users: the file as it is, with warnings only for what means nothing here. Its data options are not those of the store
# above, so that this is elsewhere.
mkdir recbole && cd recbole && ln -s ../data data
said recbole.log "$P" run --model GRU4Rec --dataset example --config "$SOURCE/tests/end_to_end/recbole.yaml"
expect_line recbole.log '^test: recall@20 0\.[0-9]{4}'
expect_equal "keys without meaning" "$(grep -o "^option '[A-Za-z_]*'.*has no effect here" recbole.log | cut -d "'" -f 2 | sort | tr '\n' ' ')" \
  "ITEM_LIST_LENGTH_FIELD LIST_SUFFIX gpu_id load_col log_wandb save_dataset use_gpu "
grep -A 80 '^options:' recbole.log >options.log
expect_line options.log '\* embedding_size +32'
expect_line options.log '\* clip_grad_norm +.*5'
expect_line options.log '\* user_inter_num_interval +.*\[3,inf\)'
# Its example, run_recbole(model='GRU4Rec', dataset=…, config_dict={'neg_sampling': None}).
said short.log "$P" run --model GRU4Rec --dataset example --data_path data --neg_sampling None --epochs 1 --store short --run_dir short
expect_line short.log '^test: recall@20 0\.[0-9]{4}'
