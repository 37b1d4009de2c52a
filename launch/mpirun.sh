#!/usr/bin/env bash
# Runs gru4rec under Open MPI's mpirun with what it needs on any machine, and makes TERM and INT stop it after saving.
set -uo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"

usage() {
  cat <<'HELP'
usage: launch/mpirun.sh -np N [--hostfile FILE] [--dry-run] [OPTION OF MPIRUN…] -- COMMAND OF GRU4REC…

  -np N            number of ranks
  --hostfile FILE  machines, one a line: `node1 slots=2` (cluster/hostfile.example); without it, this machine
  --dry-run        print the mpirun command and stop

  e.g. launch/mpirun.sh -np 2 -- train --config configs/ml-100k.yaml
       launch/mpirun.sh -np 4 --hostfile hosts --mca btl_tcp_if_include eth0 -- train --config configs/yoochoose.yaml --resume

TERM, INT (Ctrl-C), HUP and USR1 sent to this script make the ranks save a checkpoint and leave; the exit code is then 138.
A second TERM or INT ends them at once. GRU4REC=PATH names another program than the one built here. docs/running.md tells more.
HELP
}

ranks='' hostfile='' dry_run=no extra=() command=()
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
    --dry-run)
      dry_run=yes
      shift
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
[[ -n $ranks ]] || die 2 "the number of ranks is missing: -np N; see launch/mpirun.sh --help"
[[ ${#command[@]} -gt 0 ]] || die 2 "what to run is missing: -- train --config FILE …; see launch/mpirun.sh --help"
command -v mpirun >/dev/null || die 3 "mpirun is not in PATH. Install Open MPI (launch/setup.sh does)."
program=$(find_program) || exit

# mpirun counts cores, not hardware threads, and refuses more ranks than cores unless told. Hostfiles and Slurm say slots.
oversubscribe=()
if [[ -z $hostfile && -z ${SLURM_JOB_ID:-} ]]; then
  cores=$(lscpu --parse=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
  [[ $ranks -le $cores ]] || oversubscribe=(--oversubscribe)
fi
# Not bound: two jobs on a machine, or ranks in containers, would share core 0. Yielding while idle costs little where every rank
# has its core and saves milliseconds a message where not. Keepalive: a cut line ends the job in seconds instead of never.
mpirun=(mpirun -np "$ranks" ${hostfile:+--hostfile "$hostfile"} "${oversubscribe[@]}" --bind-to none
  --mca mpi_yield_when_idle 1
  --mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3
  "${extra[@]}" "$program" "${command[@]}")
if [[ $(id -u) == 0 ]]; then # else mpirun refuses root
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
if [[ $dry_run == yes ]]; then
  [[ $(id -u) != 0 ]] || printf 'OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 '
  quoted "${mpirun[@]}"
  printf '\n'
  exit 0
fi

# mpirun answers TERM and INT with KILL a second later, too soon to save; USR1 it forwards to the ranks at once. It gets a session
# of its own, so that Ctrl-C on a terminal comes to this script only.
job='' stopping=no
stop() {
  if [[ $stopping == no ]]; then
    stopping=yes
    say "mpirun.sh: got $1: asking the ranks to save and leave (again to end them at once)" >&2
    [[ -z $job ]] || kill -USR1 "$job" 2>/dev/null
  elif [[ $1 == TERM || $1 == INT ]]; then
    say "mpirun.sh: got $1 again: ending the ranks" >&2
    [[ -z $job ]] || kill -TERM "$job" 2>/dev/null
  fi
}
for signal in TERM INT HUP USR1; do
  # shellcheck disable=SC2064
  trap "stop $signal" $signal
done
setsid "${mpirun[@]}" </dev/null &
job=$!
[[ $stopping == no ]] || kill -USR1 "$job"
# A signal ends `wait` early with 128 + signal while the job goes on.
while :; do
  wait "$job"
  code=$?
  kill -0 "$job" 2>/dev/null || break
done
exit "$code"
