#!/usr/bin/env bash
# Law: under a real Slurm of two nodes a job that is preempted resumes, one whose time is over queues itself again and resumes, one
# that is sent USR1 saves; it ends with the digest of a run in one process, as does a job that nothing disturbs.
source "$(dirname "$0")/../end_to_end/lib.sh"
skip() {
  echo "skipped: $*"
  exit 77
}
[[ $(id -u) == 0 ]] || skip "the daemons of Slurm need root"
for command in munged slurmctld slurmd sbatch; do
  command -v "$command" >/dev/null || skip "there is no $command (packages slurm-wlm, slurm-wlm-basic-plugins, munge, libpmix-dev)"
done
[[ -n $(ip -o -4 address show up scope global) ]] || skip "there is no network interface for ranks of two nodes to meet at"
LOCAL=$SOURCE/cluster/slurm/local.sh
export SLURM_CONF=$WORK/slurm/slurm.conf GRU4REC=$PROGRAM LAUNCH=$SOURCE/launch
cleanup() {
  local code=$?
  if [[ $code != 0 && $code != 77 ]]; then # all there is to know, before it is gone
    { squeue --states all; scontrol show jobs; grep -v '^  ' long.log; tail -n 30 slurm/*.log; } >&2 || true
  fi
  "$LOCAL" stop "$WORK/slurm" || true
  cd / && rm -rf "$WORK"
}
trap cleanup EXIT
"$LOCAL" start "$WORK/slurm" >start.log 2>&1 || skip "no Slurm starts here: $(tail -n 1 start.log)"
srun --mpi=list 2>&1 | grep -qw pmix || skip "this Slurm has no --mpi=pmix"

# Ranks that take long to leave, as on a busy machine: the first one to go makes Slurm end them with TERM.
cat >slow_to_leave <<'SCRIPT'
#!/bin/bash
trap : USR1 TERM
"$SLOW" "$@" &
while :; do # a signal ends `wait` early; the program gets it from Slurm as well
  wait $!
  code=$?
  kill -0 $! 2>/dev/null || break
done
trap - TERM
[[ $SLURM_PROCID == 0 ]] || sleep 2
exit "$code"
SCRIPT
chmod +x slow_to_leave
export SLOW=$PROGRAM

# submit NAME EPOCHS [OPTION OF SBATCH…]: prints the number of the job; its log is NAME.log
submit() {
  local name=$1 epochs=$2
  shift 2
  sbatch --parsable --output="$name.log" "$@" "$SOURCE/launch/slurm.sbatch" "${OPTIONS[@]}" --run_dir "$name" --replicas 4 \
    --epochs "$epochs" --stopping_step 1000000
}
state() { squeue --noheader --states all --jobs "$1" --format %T; }
is() { [[ $(state "$1") == "$2" ]]; }
saw() { [[ $(grep -c "$2" long.log) -ge $1 ]]; } # saw TIMES TEXT
# wait_for_resumption TIMES: until the long run has resumed so often, and saved since
wait_for_resumption() {
  wait_until "the run resumes, time $1" saw "$1" 'resumed from'
  local before
  before=$(newest_in long/checkpoints)
  wait_until "a checkpoint after $before" has_newer_than long/checkpoints "$before"
}
finish() { # finish RUN EPOCHS: in one process
  "$PROGRAM" train "${OPTIONS[@]}" --run_dir "$1" --resume --replicas 4 --epochs "$2" --stopping_step 1000000 >"$1.finish.log" 2>&1
}

make_data 1500
ingest
long=$(GRU4REC=$WORK/slow_to_leave submit long 1000000)
wait_for_step long
short=$(submit short 3 --partition high) # there is no room for both
wait_until "the job of higher priority ends" is "$short" COMPLETED
finish one 3
expect_equal "digest of a job" "$(digest short)" "$(digest one)"
wait_for_resumption 1
scancel --batch --signal=USR1 "$long" # as Slurm does when the time limit is near
wait_for_resumption 2
scancel --signal=USR1 "$long"
wait_until "the job ends" is "$long" FAILED
[[ $(grep -c 'after saving step' long.log) == 3 ]] || { cat long.log >&2; fail "it was not saved three times"; }
epochs=$(($(last_epoch long) + 2))
finish long "$epochs"
finish one "$epochs"
expect_equal "digest of a job that was disturbed three times, $epochs epochs" "$(digest long)" "$(digest one)"
