#!/usr/bin/env bash
# Law: a store that has grown is trained on with what was learned before: --resume and --init_from keep the rows of known items, on any
# number of ranks, and without new data nothing changes. An old checkpoint evaluates and recommends what it knows.
source "$(dirname "$0")/lib.sh"
P=$PROGRAM
make_data 260
mkdir -p data/new
# Users 1 to 200 are the old data, the rest is new, with an item of its own that follows i3.
awk 'NR == 1 || $1 <= 200' data/example/example.inter >old.inter
awk 'NR == 1 || $1 > 200' data/example/example.inter >data/new/new.inter
for u in {201..240}; do printf 'n%s\ti3\t%s\nn%s\tnew\t%s\n' "$u" "${u}50" "$u" "${u}51"; done >>data/new/new.inter
mv old.inter data/example/example.inter
OPTIONS+=(--eval_args '{split: {TS: {test: 0.05, valid: 0.05}}}' --ema_decay 0.9 --epochs 3)
refused() { expect_code 2 "${@:2}" >refused.log 2>&1; expect_line refused.log "$1"; }
append() { "$P" ingest "${OPTIONS[@]}" --append "$@" >append.log 2>&1 || { cat append.log >&2; fail "ingest --append $*"; }; }

ingest
cp -r store before
train 1 run || { cat run.log >&2; fail "train run"; }

# Nothing new: not a byte changes, and a run goes on as if nothing had happened.
append
expect_line append.log 'nothing new'
cmp store/example/manifest.h5 before/example/manifest.h5 || fail "an append of what is there writes the manifest"
cp -r run same
train 2 same --resume --epochs 4
train 2 straight --epochs 4
expect_equal "resumed after an append of nothing" "$(digest same)" "$(digest straight)"

# New data: the first items are the old ones.
refused 'cannot append to store/example.*min_session_length: 1 → 3.*Pass them' "$P" ingest "${OPTIONS[@]}" --append --train_file new/new.inter --min_session_length 3
refused 'cannot append to store/none' "$P" ingest "${OPTIONS[@]}" --append --store store/none
refused 'there is no file' "$P" ingest "${OPTIONS[@]}" --train_file none.inter --store store/none
[[ ! -e store/none ]] || fail "an ingest that was refused leaves a folder"
refused 'another ingest writes the store' flock store/example/.lock "$P" ingest "${OPTIONS[@]}" --append --train_file new/new.inter
append --train_file new/new.inter
expect_equal "verified" "$("$P" inspect store/example --verify >verify.log 2>&1; echo $?)" 0
grown=$("$P" inspect store/example --digest)
[[ $grown != "$("$P" inspect before/example --digest)" ]] || fail "the store did not grow"
expect_line <("$P" inspect store/example) "^grown from +$("$P" inspect before/example --digest)"

# --resume and --init_from, on one rank and two.
for ranks in 1 2; do
  cp -r run "resumed$ranks"
  train "$ranks" "resumed$ranks" --resume --epochs 5 || { cat "resumed$ranks.log" >&2; fail "resume on a grown store"; }
  train "$ranks" "begun$ranks" --init_from run --epochs 2 || { cat "begun$ranks.log" >&2; fail "init_from on a grown store"; }
done
expect_line resumed1.log 'the store has grown since then, from 97 items to 98'
expect_line begun1.log '97 of the 98 items have a row in run.*1 begin like those of a new run'
expect_equal "resumed on 1 and 2 ranks" "$(digest resumed1)" "$(digest resumed2)"
expect_equal "begun on 1 and 2 ranks" "$(digest begun1)" "$(digest begun2)"
# A run that has done its epochs is not touched.
cp -r run done
refused 'nothing is left to train, 3 epochs are done.*Raise epochs' "$P" train "${OPTIONS[@]}" --run_dir done --resume
cmp done/result.json run/result.json || fail "the result of a run that was done is another"
train 1 other --epochs 1 --store before/example || { cat other.log >&2; fail "train on the old store"; }

# The other way round: the former store is no extension of the grown one.
refused 'cannot resume.*did not grow from it.*Pass the store of that run' "$P" train "${OPTIONS[@]}" --run_dir resumed1 --resume --epochs 6 --store before/example

# Nor are other items, under whatever ids.
sed '2,$s/\ti/\tother/' data/example/example.inter >data/new/strange.inter
"$P" ingest "${OPTIONS[@]}" --train_file new/strange.inter --store store/strange >ingest.log 2>&1 || { cat ingest.log >&2; fail "ingest of other items"; }
refused 'cannot begin with the weights of run/.*none of its 97 items is among the 97 of this store' "$P" train "${OPTIONS[@]}" --run_dir strange --init_from run --store store/strange
refused 'cannot evaluate: run/.*knows none of the 97 items' "$P" evaluate --checkpoint run --store store/strange

# A tuning stays with the data that its trials were compared on.
echo 'num_layers choice [1]' >space.hyper
tune() { "$P" tune "${OPTIONS[@]}" --params_file space.hyper --run_dir tuning --epochs 1 "$@"; }
tune --store before/example >tune.log 2>&1 || { cat tune.log >&2; fail "tune"; }
refused 'tuning/tune is a tuning on data with the digest' tune --store store/example

# A store that grew is made anew, without what was appended, only with a word.
cp -r store/example store/again
"$P" ingest "${OPTIONS[@]}" --store store/again >again.log 2>&1 || { cat again.log >&2; fail "ingest over a store that grew"; }
expect_line again.log 'the store store/again grew by --append, [0-9]+ time.*made anew'
"$P" ingest "${OPTIONS[@]}" --store store/again >again.log 2>&1
! grep -q 'grew by' again.log || fail "nothing was appended to the store that was made anew"

# The old model knows 97 of the items, and the new one all.
"$P" evaluate --checkpoint run --store store/example >old.txt 2>old.log || { cat old.log >&2; fail "evaluate of the old model"; }
expect_line old.log 'the 1 of 98 that it does not know are missed'
expect_line old.txt '^test: recall@20 '
"$P" evaluate --checkpoint run --store before/example >own.txt 2>own.log
expect_equal "on its own store" "$(cat own.txt)" "$(tail -n 1 run.log)"
recommend() { "$P" recommend --checkpoint "$1" --session "$2" --k 98 2>/dev/null; }
expect_line <(recommend run 'i3 new') '"unknown":\["new"\]'
expect_line <(recommend begun1 'i3 new') '"items":\["'
[[ $(recommend begun1 'i3 new') != *'"unknown":["new"]'* ]] || fail "the new model does not know the new item"
[[ $(recommend begun1 'i3') == *'"new"'* && $(recommend run 'i3') != *'"new"'* ]] || fail "the new item is not recommended, or too early"
