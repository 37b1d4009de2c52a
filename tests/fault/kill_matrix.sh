#!/usr/bin/env bash
# Law: supervised runs that are disturbed again and again at random steps, on another number of ranks each time, end with the
# digest of the run that nothing happened to. By hand, and six of them in .ci/run: tests/fault/kill_matrix.sh build/release/gru4rec
#
#   FAULTS=200  how many, drawn with SEED=1 from those KINDS (all of them by default) that can be had here:
#               kill        SIGKILL of a rank
#               checkpoint  SIGKILL of rank 0 as soon as it is seen to write a checkpoint
#               stop        SIGSTOP of a rank, which the others notice
#               mpirun      SIGKILL of mpirun, so that it cannot end the ranks
#               full        the disk of the checkpoints fills up while the run goes on (needs root and mount namespaces)
#               link        the cable of a host is pulled (needs root and network namespaces)
#
#   TRAIN_OPTIONS  more options of all the runs, such as "--checkpoint_in_background true"
#
# A line for each fault: number, ranks, kind, rank, the step of the newest checkpoint, and the phase: `checkpoint` where rank 0
# died with a checkpoint half written (its temporary file stays behind), else `step`. A fault comes when so many steps as were
# drawn are done since the last one was recovered from, and is over when there is a checkpoint that is newer than it.
if [[ ${OWN_MOUNTS:-} != yes && $(id -u) == 0 ]] && unshare --mount sh -c 'mount -t tmpfs none /mnt' 2>/dev/null; then
  OWN_MOUNTS=yes exec unshare --mount "$0" "$@"
fi
source "$(dirname "$0")/../end_to_end/lib.sh"
export GRU4REC=$PROGRAM
SUPERVISE=$SOURCE/launch/supervise.sh HOSTS=$SOURCE/cluster/testhosts.sh
export TESTHOSTS=matrix$$x
read -ra more_options <<<"${TRAIN_OPTIONS:-}"
# The table has more than 1 MiB: it is written past the page cache.
RUN=(--run_dir run --replicas 4 --embedding_size 256 --hidden_size 256 --stopping_step 1000000 "${more_options[@]}")

supervisor='' hosts=no
cleanup() {
  [[ $? == 0 ]] || tail -n 40 supervise.log >&2 || true
  [[ -z $supervisor ]] || kill -TERM "$supervisor" 2>/dev/null || true
  [[ $hosts == no ]] || "$HOSTS" down 2>/dev/null
  [[ -z $supervisor ]] || wait "$supervisor" 2>/dev/null || true
  ! mountpoint -q "$WORK/run/checkpoints" || umount -l "$WORK/run/checkpoints"
  cd / && rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir -p run/checkpoints
kinds=()
for kind in ${KINDS:-kill checkpoint stop mpirun full link}; do
  case $kind in
    kill | checkpoint | stop | mpirun) ;;
    full)
      if [[ ${OWN_MOUNTS:-} != yes ]]; then
        echo "left out: full, which needs root and mount namespaces"
        continue
      fi
      mount -t tmpfs -o size=96m none run/checkpoints
      ;;
    link)
      if ! "$HOSTS" up 2 >hosts.log 2>&1; then
        echo "left out: link: $(tail -n 1 hosts.log)"
        continue
      fi
      hosts=yes
      ;;
    *) fail "KINDS names '$kind', wanted some of: kill checkpoint stop mpirun full link" ;;
  esac
  kinds+=("$kind")
done

# The state of the run, as it can be seen from outside.
step() { # of the newest checkpoint
  local name
  name=$(basename "$(newest_in run/checkpoints)" .h5)
  echo $((10#0${name#step-}))
}
has_step() { [[ $(step) -ge $1 ]]; }
lives() { [[ -e /proc/$1/exe ]]; } # not so of a zombie
is_gone() { ! lives "$1"; }
# writes_checkpoint PID: a process that died while it wrote leaves its temporary file, until the next one removes it
writes_checkpoint() { compgen -G "run/checkpoints/.step-*.tmp-$1-*" >/dev/null; }

# find_ranks: sets pids[RANK] and their number, `ranks`; fails unless all of them are there
find_ranks() {
  local rank
  pids=()
  pids[0]=$(pid_of_rank run 0 2>/dev/null) || return 1
  ranks=$(tr '\0' '\n' 2>/dev/null <"/proc/${pids[0]}/environ" | sed -n 's/^OMPI_COMM_WORLD_SIZE=//p') || return 1
  for ((rank = 1; rank < ranks; ++rank)); do
    pids[rank]=$(pid_of_rank run "$rank" 2>/dev/null) || return 1
  done
}

# supervise WHERE RANKS [OPTION…]: in the background
supervise() {
  local where=$1 ranks=$2 start=("$SUPERVISE")
  shift 2
  local options=(--restarts 20 --backoff 0.1 -- train "${OPTIONS[@]}" "${RUN[@]}" --checkpoint_steps 2 --comm_timeout 5 "$@")
  if [[ $where == hosts ]]; then
    "$HOSTS" hostfile 2 >hosts 2>>hosts.log
    start=("$HOSTS" supervise --hostfile hosts)
  fi
  "${start[@]}" --np "$ranks" "${options[@]}" >>supervise.log 2>&1 &
  supervisor=$!
}
# leave CODE: the supervisor ends with it
leave() {
  local code=0
  wait_until "the supervisor ends" is_gone "$supervisor"
  wait "$supervisor" || code=$?
  supervisor=''
  expect_equal "exit code of supervise.sh" "$code" "$1"
}

# Each of these makes the fault and returns when rank 0 is gone. They get the victim's rank, and set `phase`.
strike() { # SIGNAL RANK
  ! writes_checkpoint "${pids[0]}" || phase=checkpoint
  kill -s "$1" "${pids[$2]}" || true # it may have been faster
  wait_until "rank 0 ends after $1 of rank $2" is_gone "${pids[0]}"
}
fault_kill() { strike KILL "$1"; }
fault_stop() {
  strike STOP "$1"
  kill -KILL "${pids[$1]}" 2>/dev/null || true
}
fault_checkpoint() {
  local i
  for ((i = 0; i < 1000000; ++i)); do
    if writes_checkpoint "${pids[0]}"; then break; fi
  done
  strike KILL 0
  if writes_checkpoint "${pids[0]}"; then phase=checkpoint; else phase=step; fi
}
fault_mpirun() {
  kill -KILL "$(ps -o ppid= -p "${pids[0]}" | tr -d ' ')" || true
  wait_until "rank 0 ends without mpirun" is_gone "${pids[0]}"
}
fault_full() {
  phase=checkpoint
  fill() { # again and again, as the run removes old checkpoints
    cat /dev/zero >>run/checkpoints/filler 2>/dev/null || true
    is_gone "${pids[0]}"
  }
  wait_until "rank 0 ends on a full disk" fill
  rm run/checkpoints/filler
}
fault_link() {
  "$HOSTS" link "${TESTHOSTS}2" down 2>>hosts.log
  wait_until "rank 0 ends without the other host" is_gone "${pids[0]}"
  # The supervisor goes on with the ranks that are left; the others are back after the next fault.
  wait_until "the run goes on without the other host" has_step $(($(step) + 1))
  "$HOSTS" link "${TESTHOSTS}2" up 2>>hosts.log
}

make_data
ingest
RANDOM=${SEED:-1}
faults=${FAULTS:-200} per_run=3 within=0 np=0 begun=$SECONDS
printf 'fault\tranks\tkind\trank\tstep\tphase\n'
for ((n = 1; n <= faults; ++n)); do
  kind=${kinds[RANDOM % ${#kinds[@]}]}
  if [[ -z $supervisor ]]; then
    where=here
    [[ $hosts == no || $((RANDOM % 2)) == 0 ]] || where=hosts
    np=$((1 + (np + RANDOM % 3) % 4)) # never as many as before
    since=$(step)
    supervise $where $np --resume --epochs 1000000
    wait_until "a checkpoint of the run on $np rank(s)" has_step $((since + 1))
  fi
  wait_until "the step of fault $n" has_step $((since + RANDOM % 20))
  wait_until "all ranks are there" find_ranks
  # A lone rank that is stopped is noticed by none, and a link needs two ends.
  [[ $kind != stop || $ranks -gt 1 ]] || kind=kill
  [[ $kind != link || ($where == hosts && $ranks -gt 2) ]] || kind=kill
  victim=$((RANDOM % ranks)) phase=step
  case $kind in checkpoint | mpirun | full) victim=0 ;; link) victim=2 ;; esac
  sleep "0.0$((RANDOM % 90 + 10))" # anywhere in a step
  at=$(step)
  "fault_$kind" $victim
  printf '%d\t%d\t%s\t%d\t%d\t%s\n' "$n" "$ranks" "$kind" "$victim" "$at" "$phase"
  [[ $phase == step ]] || within=$((within + 1))
  since=$(step)
  ((since >= at)) || fail "fault $n lost a checkpoint: step $at was saved, now the newest is $since"
  wait_until "a newer checkpoint after fault $n" has_step $((since + 1))
  since=$(step)
  if ((n % per_run == 0 || n == faults)); then
    kill -TERM "$supervisor"
    leave 138
  fi
done
epochs=$(($(last_epoch run) + 2))
supervise here 3 --resume --epochs "$epochs"
leave 0
"$PROGRAM" train "${OPTIONS[@]}" "${RUN[@]}" --run_dir whole --epochs "$epochs" >whole.log 2>&1
printf '%d faults, %d of them within the writing of a checkpoint, %d s\n' "$faults" "$within" $((SECONDS - begun))
expect_equal "digest after $faults faults, $epochs epochs" "$(digest run)" "$(digest whole)"
