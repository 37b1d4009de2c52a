#!/usr/bin/env bash
# Law: a supervised run whose ranks are killed again and again goes on by itself, and ends with the digest of a run that was never
# disturbed. It has no end of its own while that lasts: it is stopped after the last kill, and how long both runs are is decided
# then, by where it is. So nothing depends on the speed of the machine. KILLS=3 by default.
source "$(dirname "$0")/lib.sh"
make_data 120
ingest
# What the supervisor reads is what train would take: it can be read again, and says the same.
"$PROGRAM" options "${OPTIONS[@]}" --epochs 77 >options.yaml
expect_line options.yaml "^epochs: 77"
expect_equal "options of options" "$("$PROGRAM" options --config options.yaml)" "$(cat options.yaml)"

kills=${KILLS:-3}
TRAIN=(train "${OPTIONS[@]}" --stopping_step 1000000 --replicas 4)
SUPERVISE=("$SOURCE/launch/supervise.sh" --backoff 0.1)
# A failed test leaves nothing behind that trains for ever.
supervisor=''
end() {
  [[ -z $supervisor ]] || { kill -TERM "$supervisor" && sleep 1 && kill -TERM "$supervisor" && wait "$supervisor"; } 2>/dev/null || true
  rm -rf "$WORK"
}
trap end EXIT
newest() { find supervised/checkpoints -name 'step-*.h5' 2>/dev/null | sort | tail -n 1; }
# wait_for_newer FILE: until there is a newer checkpoint than this
wait_for_newer() {
  local i
  for ((i = 0; i < 1200; ++i)); do
    [[ ! $(newest) > $1 ]] || return 0
    sleep 0.05
  done
  tail -n 20 run.log >&2
  fail "no checkpoint after '$1'"
}
# The ranks that run, without those that are dead and not yet buried.
ranks() {
  pgrep -f "train .*--run_dir supervised --epochs" | while read -r pid; do
    ! is_rank "$pid" || echo "$pid"
  done || true
}
starts() { grep -c '^supervise.sh: start ' run.log || true; }

"${SUPERVISE[@]}" --np 3 -- "${TRAIN[@]}" --run_dir supervised --epochs 1000000000 >run.log 2>&1 &
supervisor=$!
for ((kill = 1; kill <= kills; ++kill)); do
  wait_for_newer "$(newest)"
  for ((i = 0; i < 1200; ++i)); do # a rank may end between being found and being killed
    victim=$(ranks | shuf -n 1 --random-source=<(yes "$kill"))
    [[ -z $victim ]] || ! kill -KILL "$victim" 2>/dev/null || break
    sleep 0.05
  done
  [[ $i -lt 1200 ]] || fail "no rank runs before kill $kill"
  for ((i = 0; i < 1200; ++i)); do
    [[ $(starts) -le $kill ]] || break
    sleep 0.05
  done
  [[ $(starts) -gt $kill ]] || { tail -n 20 run.log >&2; fail "kill $kill was not followed by a start"; }
done
wait_for_newer "$(newest)"
kill -TERM "$supervisor"
expect_code 138 wait "$supervisor"
supervisor=''
expect_line run.log "^supervise.sh: got TERM: no more restarts"
[[ $(starts) -gt $kills ]] || fail "$(starts) starts for $kills kills"

# Two epochs more, on other ranks; and the same number without a disturbance.
epochs=$(($(wc -l <supervised/metrics.jsonl) + 2))
expect_code 0 "${SUPERVISE[@]}" --np 2 -- "${TRAIN[@]}" --run_dir supervised --epochs "$epochs" >end.log 2>&1
expect_line end.log "^supervise.sh: done after 1 start"
"$PROGRAM" "${TRAIN[@]}" --run_dir whole --epochs "$epochs" >whole.log 2>&1
expect_line whole/metrics.jsonl "\"epoch\":$((epochs - 1))," # both came to their end
expect_line supervised/metrics.jsonl "\"epoch\":$((epochs - 1)),"
expect_equal "digest after $kills kills" "$(digest supervised)" "$(digest whole)"
