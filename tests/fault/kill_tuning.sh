#!/usr/bin/env bash
# Law: a tuning whose processes are all killed, again and again, goes on to the table of the one that nothing happened to, and
# trains no trial twice. Without options eight small trials; by hand, on two cores about half an hour, the real one:
#   tests/fault/kill_tuning.sh build/release/gru4rec --config configs/ml-100k.yaml --params_file configs/hyper.test
#
#   KILLS="20 45 70"  all processes get SIGKILL as soon as so many trials are done
#   UNDISTURBED=DIR   the run folder of this very tuning where it is at hand; otherwise it is made first
source "$(dirname "$0")/../end_to_end/lib.sh"
shift
TUNE=("$PROGRAM" tune "$@")
if [[ $# == 0 ]]; then
  make_data 120
  ingest
  printf 'learning_rate choice [0.01,0.003,0.001,0.0003]\ndropout_prob choice [0.0,0.4]\n' >space
  TUNE+=("${OPTIONS[@]}" --epochs 60 --stopping_step 1000 --params_file space)
  KILLS=${KILLS:-1 4 6}
else
  [[ -z ${UNDISTURBED:-} ]] || UNDISTURBED=$(cd "$OLDPWD" && realpath "$UNDISTURBED")
  cd "$OLDPWD"
fi

tuning=''
# Of mpirun and its ranks: they are a session of their own.
kill_all() {
  [[ -z $tuning ]] || pkill -KILL -s "$tuning" || true
  tuning=''
}
trap 'kill_all; rm -rf "$WORK"' EXIT
start() { # start RUN_DIR LOG
  setsid "${MPIRUN[@]}" -np 2 "${TUNE[@]}" --run_dir "$1" </dev/null >"$2" 2>&1 &
  tuning=$!
}
results() { find "$WORK/killed/tune" -name result.json 2>/dev/null | sort; }
enough() { [[ $(results | wc -l) -ge $1 ]] || ! kill -0 "$tuning" 2>/dev/null; }
table() { cat "$1/tune/trials.tsv"; }

if [[ -z ${UNDISTURBED:-} ]]; then
  UNDISTURBED=$WORK/undisturbed
  "${MPIRUN[@]}" -np 2 "${TUNE[@]}" --run_dir "$UNDISTURBED" >"$WORK/undisturbed.log" 2>&1 || fail "undisturbed: $(<"$WORK/undisturbed.log")"
fi
trials=$(table "$UNDISTURBED" | tail -n +2 | wc -l)

for done_trials in ${KILLS:-20 45 70}; do
  start "$WORK/killed" "$WORK/killed.log"
  until enough "$done_trials"; do sleep 0.05; done
  kill -0 "$tuning" 2>/dev/null || fail "it ended before $done_trials trials were done: $(<"$WORK/killed.log")"
  leader=$tuning
  kill_all
  wait "$leader" 2>/dev/null || true
  results | xargs -r sha256sum >>"$WORK/before"
  printf '%s killed with %s of %s trials done\n' "$(date +%T)" "$(results | wc -l)" "$trials"
done
[[ $(results | wc -l) -lt $trials ]] || fail "every kill came too late"
start "$WORK/killed" "$WORK/killed.log"
wait "$tuning" || fail "it does not go on: $(<"$WORK/killed.log")"
tuning=''
sort -u "$WORK/before" | sha256sum --check --quiet || fail "a trial that was done is not what it was"
expect_equal "table of a tuning that was killed" "$(table "$WORK/killed")" "$(table "$UNDISTURBED")"
echo "$trials trials, the table of the undisturbed tuning"
