#!/usr/bin/env bash
# Keeps a training going: starts it with launch/mpirun.sh, and after a crash again from its last good checkpoint, on the hosts that
# are left.
set -uo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"

usage() {
  cat <<'HELP'
usage: launch/supervise.sh [--np N] [--hostfile FILE] [--restarts N] [--backoff S] [OPTION OF MPIRUN…] -- train …

  --np N           number of ranks; without it, all slots of the hostfile
  --hostfile FILE  machines, one a line: `node1 slots=2`. Before each start every one is asked whether it answers, by ssh or what
                   else mpirun is told to use (--mca plm_rsh_agent); those that do not are left out, and their ranks with them
  --restarts N     give up after N restarts in a row without a newer checkpoint (default 5)
  --backoff S      wait S seconds before a restart, twice as long before each further one without a newer checkpoint, at most
                   five minutes (default 2)

  e.g. launch/supervise.sh --np 2 -- train --config configs/ml-100k.yaml
       launch/supervise.sh --hostfile hosts -- train --config configs/yoochoose.yaml

Started again are jobs that end with 3 (the surroundings) or because a rank was killed or a host lost. 0 (done), 2 (yours to
mend) at the first start, 4 (a bug) and 138 (stopped after saving) end the supervisor too, with that code. A 2 at a later start is
taken for something that passes, such as a rank of the last start that is not gone yet and still holds the run folder. It always passes --resume, and, where the
configuration leaves `replicas` open, a run's first number of ranks as --replicas, so that the result does not depend on what
fails. TERM, INT (Ctrl-C), HUP and USR1 make the ranks save and leave, and end the supervisor with 138; a second TERM or INT ends
the ranks at once.
HELP
}

tell() { say "supervise.sh: $*" >&2; }

ranks='' hostfile='' restarts=5 backoff=2 agent=${OMPI_MCA_plm_rsh_agent:-} extra=() command=()
while [[ $# -gt 0 ]]; do
  case $1 in
    -np | -n | --np)
      ranks=${2:-}
      [[ $ranks =~ ^[1-9][0-9]*$ ]] || die 2 "$1 wants a number of ranks, got '$ranks'"
      shift 2
      ;;
    --hostfile | -hostfile | --machinefile)
      hostfile=${2:-}
      [[ -r $hostfile ]] || die 2 "cannot read the hostfile '$hostfile'; cluster/hostfile.example shows one"
      shift 2
      ;;
    --restarts)
      restarts=${2:-}
      [[ $restarts =~ ^[0-9]+$ ]] || die 2 "--restarts wants a number, got '$restarts'"
      shift 2
      ;;
    --backoff)
      backoff=${2:-}
      [[ $backoff =~ ^[0-9]+(\.[0-9]+)?$ ]] || die 2 "--backoff wants seconds, got '$backoff'"
      shift 2
      ;;
    --mca)
      [[ $# -ge 3 ]] || die 2 "--mca wants a name and a value"
      [[ $2 != plm_rsh_agent ]] || agent=$3
      extra+=("${@:1:3}")
      shift 3
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    --)
      shift
      command=("$@")
      break
      ;;
    *)
      extra+=("$1")
      shift
      ;;
  esac
done
[[ -n $ranks || -n $hostfile ]] || die 2 "the number of ranks is missing: --np N or --hostfile FILE; see launch/supervise.sh --help"
[[ ${command[0]:-} == train ]] || die 2 "what to run must be train, got '${command[*]:-}': -- train --config FILE …"
program=$(find_program) || exit
work=$(mktemp -d) || die 3 "cannot make a temporary folder"
trap 'rm -rf "$work"' EXIT

# The hosts of the hostfile, each with its slots, one a line.
slots_of_hosts() {
  sed 's/#.*//' "$hostfile" | awk 'NF { slots = 1; for (i = 2; i <= NF; ++i) if ($i ~ /^slots=[0-9]+$/) slots = substr($i, 7); print $1, slots }'
}
total() { awk '{ sum += $2 } END { print sum + 0 }'; }
if [[ -n $hostfile ]]; then
  [[ $(slots_of_hosts | total) -gt 0 ]] || die 2 "the hostfile '$hostfile' names no machine; cluster/hostfile.example shows one"
  : "${ranks:=$(slots_of_hosts | total)}"
fi

is_this_host() {
  local name
  for name in localhost 127.0.0.1 "$(hostname)" "$(hostname -s 2>/dev/null)" $(hostname -I 2>/dev/null); do
    [[ $1 != "$name" ]] || return 0
  done
  return 1
}
answers() {
  is_this_host "$1" && return
  # shellcheck disable=SC2086 # the agent may have arguments of its own
  timeout -k 1 15 ${agent:-ssh -o BatchMode=yes -o ConnectTimeout=10} "$1" true </dev/null >/dev/null 2>&1
}

# Asks all hosts at once; writes those that answer into $work/hosts and says which do not.
find_hosts() {
  local host slots
  rm -f "$work"/answer.*
  while read -r host slots; do
    { answers "$host" && : >"$work/answer.$host"; } &
    asked+=($!)
  done < <(slots_of_hosts)
  wait_for_all "${asked[@]}"
  asked=()
  : >"$work/hosts"
  while read -r host slots; do
    if [[ -e $work/answer.$host ]]; then
      echo "$host slots=$slots" >>"$work/hosts"
    else
      tell "$host does not answer and is left out"
    fi
  done < <(slots_of_hosts)
}

# A signal ends `wait` early, with a code above 128, while the process goes on.
wait_for_all() {
  local pid
  for pid in "$@"; do
    while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done
  done
}

# What the run is about, as the program itself reads its options.
options=$("$program" options "${command[@]:1}") || exit
option() { sed -n "s/^ *$1: *\(.*\)$/\1/p" <<<"$options" | sed "s/ *#.*//; s/^\(['\"]\)\(.*\)\1$/\2/"; }
checkpoints=$(option checkpoint_dir) run_dir=$(option run_dir)
[[ -n $checkpoints ]] || die 4 "$program options says nothing of checkpoint_dir"

# The newest checkpoint of each stage, in the order of the stages: a text that grows while a run gets on.
newest() {
  local folder files
  for folder in "$run_dir/teacher/checkpoints" "$checkpoints" "$run_dir/adapted/checkpoints"; do
    files=("$folder"/step-*.h5)
    [[ -e ${files[-1]} ]] && basename "${files[-1]}" .h5 || echo -
  done | xargs
}
export LC_ALL=C
best=$(newest)
[[ $(option replicas) != 0 || $best == *step-* ]] || command+=(--replicas "$ranks")

# The ranks get a session of their own, so that Ctrl-C on a terminal comes to this script only.
job='' stopping='' asked=()
stop() {
  if [[ -z $stopping ]]; then
    stopping=$1
    tell "got $1: no more restarts"
    [[ -z $job ]] || kill -USR1 "$job" 2>/dev/null
  elif [[ ($1 == TERM || $1 == INT) && -n $job ]]; then
    kill -TERM "$job" 2>/dev/null
  fi
}
for signal in TERM INT HUP USR1; do
  # shellcheck disable=SC2064
  trap "stop $signal" $signal
done

# start: runs the job to its end; sets `code`: 138 without a start where a stop came before it, 3 without a start where no host is left.
start() {
  local np=$ranks on=()
  [[ -z $hostfile || -n $stopping ]] || find_hosts
  if [[ -n $stopping ]]; then # nothing runs, and what there is is saved
    code=138
    return
  fi
  if [[ -n $hostfile ]]; then
    local left
    left=$(sed 's/slots=//' "$work/hosts" | total)
    [[ $left -ge $np ]] || np=$left
    on=(--hostfile "$work/hosts")
    if [[ $np == 0 ]]; then
      tell "no host answers"
      code=3
      return
    fi
  fi
  tell "start $((++starts)): $np rank(s)${hostfile:+ on $(awk '{print $1}' "$work/hosts" | xargs)}, newest checkpoint: $best"
  setsid "$ROOT/launch/mpirun.sh" -np "$np" "${on[@]}" "${extra[@]}" -- "${command[@]}" --resume </dev/null &
  job=$!
  [[ -z $stopping ]] || kill -USR1 "$job"
  while :; do
    wait "$job"
    code=$?
    kill -0 "$job" 2>/dev/null || break
  done
  job=''
}

pause() {
  sleep "$1" &
  local pid=$!
  wait "$pid"
  kill "$pid" 2>/dev/null
}

code=0 starts=0 fruitless=0
while :; do
  start
  if [[ -n $stopping ]]; then
    tell "ended on $stopping, with exit code $code"
    exit "$code"
  fi
  settled=yes
  case $code in
    0) tell "done after $starts start(s)" ;;
    2) [[ $starts -gt 1 ]] && settled='' || tell "exit code 2: the message above says what to mend; not started again" ;;
    4) tell "exit code 4, a bug: not started again" ;;
    129 | 130 | 138) tell "the ranks were told to stop (exit code $code): not started again" ;;
    *) settled='' ;;
  esac
  [[ -z $settled ]] || exit "$code"
  now=$(newest)
  if [[ $now > $best ]]; then
    best=$now
    fruitless=0
  fi
  if [[ $fruitless -ge $restarts ]]; then
    tell "exit code $code; $fruitless restart(s) in a row brought no newer checkpoint than $best: giving up"
    exit "$code"
  fi
  seconds=$(awk -v s="$backoff" -v n="$fruitless" 'BEGIN { s *= 2 ^ (n < 30 ? n : 30); print s < 300 ? s : 300 }')
  fruitless=$((fruitless + 1))
  tell "exit code $code: restart $fruitless of $restarts without a newer checkpoint, in $seconds s"
  [[ -n $stopping ]] || pause "$seconds"
done
