#!/usr/bin/env bash
# Law: each option of runs, evaluation and surroundings changes what a user sees, as docs/configuration.md says it does.
source "$(dirname "$0")/lib.sh"
make_data 40
ingest
P=$PROGRAM

# What is reported, and with how many decimals.
train 1 named --topk '[5]' --metrics '[NDCG]' --valid_metric NDCG@5 --metric_decimal_place 2
[[ $(tail -n 1 named.log) =~ ^test:\ recall@20\ 0\.[0-9][0-9]\ \ mrr@20\ 0\.[0-9][0-9]\ \ ndcg@5\ 0\.[0-9][0-9]$ ]] ||
  fail "topk, metrics or metric_decimal_place: $(tail -n 1 named.log)"
expect_line named.log 'valid ndcg@5 0\.[0-9][0-9]  recall@20'
"$P" evaluate --checkpoint named --topk '[3,7]' --metrics '[Hit]' --metric_decimal_place 3 >evaluated.log 2>/dev/null
[[ $(<evaluated.log) =~ ^test:\ recall@20\ 0\.[0-9]{3}\ \ mrr@20\ 0\.[0-9]{3}\ \ hit@3\ 0\.[0-9]{3}\ \ hit@7\ 0\.[0-9]{3}$ ]] ||
  fail "evaluate with other metrics: $(<evaluated.log)"
"$P" evaluate --checkpoint named --split valid --ranks_file ranks.tsv >/dev/null 2>&1
expect_equal "lines of --ranks_file" "$(wc -l <ranks.tsv)" "$(($(tail -n +2 ranks.tsv | cut -f 1 | sort -u | wc -l) + 1))"

# What is evaluated: with ema_decay the average, by train as by evaluate.
train 1 averaged --ema_decay 0.99
expect_equal "evaluate with ema_decay" "$("$P" evaluate --checkpoint averaged 2>/dev/null)" "$(tail -n 1 averaged.log)"
train 1 unaveraged
[[ $(tail -n 1 averaged.log) != $(tail -n 1 unaveraged.log) ]] || fail "ema_decay 0.99 changes no figure"
expect_line named.log 'parameters: [0-9]+ trained$'
train 1 frozen --item_embeddings_from named --freeze_item_embeddings --loss_type cosine_embedding --score cosine
expect_line frozen.log 'parameters: [0-9]+ trained, [0-9]+ of the item table constant'

# Where things go.
"$P" ingest "${OPTIONS[@]}" --store elsewhere >/dev/null 2>&1
train 1 placed --store elsewhere --checkpoint_dir kept --epochs 1
[[ -f elsewhere/manifest.h5 && -f placed/result.json && -n $(ls kept/step-*.h5) && ! -e placed/checkpoints ]] ||
  fail "store, run_dir or checkpoint_dir was not used"

# What is said. Progress is redrawn on a terminal only, so that one is made.
train 1 quiet --log_level error
expect_equal "lines at log_level error" "$(wc -l <quiet.log)" 1
train 1 warned --log_level warning --gpu_id 0
expect_equal "lines at log_level warning" "$(wc -l <warned.log)" 2
expect_line warned.log "option 'gpu_id' .* has no effect here"
terminal() { script -qec "$P train ${OPTIONS[*]} --epochs 200 --eval_step 0 --run_dir terminal$1 --show_progress $1" /dev/null </dev/null; }
terminal true >shown.log
expect_line shown.log 'epoch [0-9]+/200 \[[#.]{20}\] .*loss [0-9.]+  [0-9.]+k events/s  ETA [0-9:?]+'
terminal false >hidden.log
! grep -q 'ETA' hidden.log || fail "show_progress false shows progress"

# Threads: stated at the start, and a resume with others is told what that means.
train 1 threads --num_threads 2 --epochs 1
expect_line threads.log '2 thread\(s\)'
train 1 threads --num_threads 1 --epochs 2 --resume
expect_line threads.log 'resumed under other circumstances \(num_threads 2 → 1\)'

# stop_timeout: how long a rank that was told to stop waits for one that does not answer.
timeout -k 5 90 "${MPIRUN[@]}" -np 2 "$P" train "${OPTIONS[@]}" --run_dir stuck --epochs 100000 --stopping_step 100000 \
  --stop_timeout 2 >stuck.log 2>&1 &
job=$!
for ((i = 0; i < 300; ++i)); do [[ -s stuck/metrics.jsonl ]] && break; sleep 0.1; done
rank_of() { tr '\0' '\n' <"/proc/$1/environ" 2>/dev/null | sed -n 's/^OMPI_COMM_WORLD_RANK=//p'; }
for pid in $(pgrep -f "train .*--run_dir stuck "); do
  case $(rank_of "$pid") in 0) first=$pid ;; 1) second=$pid ;; esac
done
kill -STOP "$second"
kill -USR1 "$first"
start=$SECONDS
expect_code 3 wait "$job"
kill -KILL "$second" 2>/dev/null || true
((SECONDS - start < 30)) || fail "stop_timeout 2 took $((SECONDS - start)) s"
expect_line stuck.log 'told to stop by signal 10, but no step could be completed within 2 s'
