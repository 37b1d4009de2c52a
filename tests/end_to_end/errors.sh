#!/usr/bin/env bash
# The errors a new user meets: exit code 2 and the sentence of docs/errors.md, nothing lost, the same under mpirun.
source "$(dirname "$0")/lib.sh"
make_data 40

# refused PATTERN COMMAND…: exit code 2 and a line that matches
refused() {
  local pattern=$1 code=0
  shift
  "$@" >out.log 2>&1 || code=$?
  [[ $code == 2 ]] || { cat out.log >&2; fail "exit code $code instead of 2: $*"; }
  expect_line out.log "$pattern"
}
P=$PROGRAM
refused "unknown option 'lerning_rate'.*did you mean 'learning_rate'" "$P" train "${OPTIONS[@]}" --lerning_rate 0.1
printf 'epochs: many\nlerning_rate: 1\n' >bad.yaml
refused "2 errors in the configuration" "$P" train --config bad.yaml
expect_line out.log "option 'epochs' \(bad.yaml:1\): got 'many', wanted an integer"
expect_line out.log "bad.yaml:2.*did you mean 'learning_rate'"
refused "cannot read the configuration nowhere.yaml" "$P" train --config nowhere.yaml
refused "there is no file data/other/other.inter" "$P" ingest "${OPTIONS[@]}" --dataset other
refused "has no column 'item'.*item_id" "$P" ingest "${OPTIONS[@]}" --ITEM_ID_FIELD item
refused "loss_type.*wanted CE or BPR" "$P" train "${OPTIONS[@]}" --loss_type TOP1
refused "'freeze_item_embeddings': got False, loss_type cosine_embedding wants True" "$P" train "${OPTIONS[@]}" --loss_type cosine_embedding --score cosine
refused "row 3: column 'timestamp' is 'x'" bash -c "mkdir -p data/bad; printf 'user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n1\t2\tx\n' >data/bad/bad.inter; exec $P ingest ${OPTIONS[*]} --dataset bad"
refused "no file store/example/manifest.h5, and so no session store.*gru4rec ingest" "$P" train "${OPTIONS[@]}"
ingest
"$P" train "${OPTIONS[@]}" --run_dir run >run.log 2>&1
before=$(digest run) metrics=$(cat run/metrics.jsonl)
refused "already holds a run" "$P" train "${OPTIONS[@]}" --run_dir run
for resume in "" --resume; do
  refused "run already holds a run, up to step [0-9]+, with its checkpoints in run/checkpoints.*another run_dir" "$P" train "${OPTIONS[@]}" --run_dir run --checkpoint_dir elsewhere $resume
done
expect_equal "the record of the run" "$(cat run/metrics.jsonl)" "$metrics"
refused "trained with other options \(learning_rate: 0.01 → 0.5" "$P" train "${OPTIONS[@]}" --run_dir run --resume --learning_rate 0.5
refused "belongs to a run of 2 replicas" "$P" train "${OPTIONS[@]}" --run_dir run --resume --replicas 3
ingest --store other --min_item_support 5
refused "cannot resume: .* was trained on" "$P" train "${OPTIONS[@]}" --run_dir run --resume --store other
refused "replicas" "${MPIRUN[@]}" -np 3 "$P" train "${OPTIONS[@]}" --run_dir run --resume
refused "unknown option 'lerning_rate'" "${MPIRUN[@]}" -np 2 "$P" train "${OPTIONS[@]}" --lerning_rate 0.1
refused "debug is one process" "${MPIRUN[@]}" -np 2 "$P" train "${OPTIONS[@]}" --run_dir debug --debug
refused "got random ones, wanted trained ones.*item_embeddings_from" "$P" train "${OPTIONS[@]}" --run_dir random --loss_type cosine_embedding --score cosine --freeze_item_embeddings
refused "item embeddings of .*embedding_size 16, this run has .*embedding_size 17" "${MPIRUN[@]}" -np 2 "$P" train "${OPTIONS[@]}" --run_dir sizes --item_embeddings_from run --embedding_size 17
refused "evaluate has no option '--learning_rate'" "$P" evaluate --checkpoint run --learning_rate 0.1
refused "device: got cuda.*set device to cpu" env CUDA_VISIBLE_DEVICES= "$P" evaluate --checkpoint run --device cuda
refused "device: got cuda.*set device to cpu" env CUDA_VISIBLE_DEVICES= "${MPIRUN[@]}" -np 2 "$P" train "${OPTIONS[@]}" --run_dir gpu --device cuda
refused "does not exist" "$P" inspect nothing
refused "data holds no checkpoint .*, and is no session store" "$P" inspect data
refused "is a session store, wanted a model" "$P" recommend --checkpoint store/example --session i3
refused "has no valid targets|no .* targets" bash -c "mkdir -p data/two; printf 'user_id:token\titem_id:token\ttimestamp:float\n1\ta\t1\n1\tb\t2\n' >data/two/two.inter; $P ingest ${OPTIONS[*]} --dataset two >/dev/null 2>&1; $P train ${OPTIONS[*]} --dataset two --run_dir two >/dev/null 2>&1; exec $P evaluate --checkpoint two"
expect_equal "the run after all refusals" "$(digest run)" "$before"

# A run's folder stands for its checkpoints, wherever they are.
"$P" train "${OPTIONS[@]}" --run_dir apart --checkpoint_dir kept_apart  >apart.log 2>&1
refused "apart already holds a run, .* in kept_apart" "$P" train "${OPTIONS[@]}" --run_dir apart
"$P" evaluate --checkpoint apart >evaluated.txt 2>evaluated.log || { cat evaluated.log >&2; fail "evaluate of a run with its checkpoints elsewhere"; }
expect_equal "its best model" "$(cat evaluated.txt)" "$(tail -n 1 apart.log)"
"$P" inspect apart >inspected.txt
expect_line inspected.txt "checkpoint +kept_apart/step-"

# A limit of file sizes, which without a word from us would end the process by a signal.
(
  ulimit -f 8
  expect_code 3 "$P" ingest "${OPTIONS[@]}" --store limited >limited.log 2>&1
)
expect_line limited.log "cannot write limited/.*: File too large. Raise the limit of file sizes"
[[ -z $(ls -A limited 2>/dev/null) ]] || fail "ingest left something behind: $(ls -A limited)"

# More threads than cores.
one_core=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
taskset -c "$one_core" "${MPIRUN[@]}" -np 2 "$P" train "${OPTIONS[@]}" --run_dir crowded >crowded.log 2>&1
expect_line crowded.log "^host [^ ]+: 2 rank\(s\) with 2 thread\(s\) in all may use 1 core\(s\)"

# Two processes on one run.
"$P" train "${OPTIONS[@]}" --run_dir busy --epochs 100000 --stopping_step 100000 >busy.log 2>&1 &
job=$!
wait_for_step busy
refused "the run folder busy is in use by another process \(host [^ ]+, pid $job\)" "$P" train "${OPTIONS[@]}" --run_dir busy --resume --epochs 100000 --stopping_step 100000
refused "the folder of checkpoints busy/checkpoints is in use by another process \(host [^ ]+, pid $job\)" "$P" train "${OPTIONS[@]}" --run_dir idle --checkpoint_dir busy/checkpoints --resume --epochs 100000 --stopping_step 100000
kill -TERM "$job"
expect_code 143 wait "$job"

# The newest checkpoint damaged: the one before it is taken, loudly.
newest=$(ls run/checkpoints/step-*.h5 | tail -n 1)
printf 'damage' | dd of="$newest" bs=1 seek=4000 conv=notrunc status=none
"$P" train "${OPTIONS[@]}" --run_dir run --resume >resumed.log 2>&1
expect_line resumed.log "checkpoint skipped: .*$(basename "$newest")"
expect_equal "digest after the damaged newest" "$(digest run)" "$before"
