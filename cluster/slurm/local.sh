#!/usr/bin/env bash
# A real Slurm on this machine, to try launch/slurm.sbatch with: munged, slurmctld and two slurmd, which are the nodes n0 and n1.
set -uo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../launch/lib.sh"

usage() {
  cat <<'HELP'
usage: cluster/slurm/local.sh start DIR | stop DIR | status DIR

  start DIR   starts the daemons, with configuration, logs, keys and all else in DIR, and waits until both nodes are idle
  stop DIR    ends the jobs, then the daemons; DIR stays
  status DIR  lists the nodes and the queue

Commands find this Slurm by SLURM_CONF=DIR/slurm.conf. Partitions: low (the default) and high, whose jobs put those of low back
into the queue. Needs root and the Debian packages slurm-wlm, slurm-wlm-basic-plugins, munge and libpmix-dev, whose own services
are not used. Nothing outside DIR is changed.
HELP
}

NODES=(n0 n1)

# Ports that nobody listens at now, as many as wanted.
free_ports() {
  python3 -c '
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))' "$1"
}

write_configuration() {
  local ports
  read -ra ports <<<"$(free_ports 3)"
  cat >"$dir/slurm.conf" <<CONF
ClusterName=gru4rec
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdSpoolDir=$dir/spool-%n
TmpFS=$dir/tmp-%n
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmdLogFile=$dir/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=300
MessageTimeout=60
KillWait=30
JobRequeue=1
SchedulerParameters=sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
NodeName=n0 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=2 State=UNKNOWN
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=2 State=UNKNOWN
PartitionName=low Nodes=n0,n1 Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=high Nodes=n0,n1 PriorityTier=10 MaxTime=INFINITE State=UP
CONF
}

need_slurm() {
  [[ $(id -u) == 0 ]] || die 2 "the daemons need root"
  local command
  for command in munged slurmctld slurmd sinfo; do
    command -v "$command" >/dev/null ||
      die 2 "there is no $command. On Debian: apt-get install slurm-wlm slurm-wlm-basic-plugins munge libpmix-dev"
  done
}

# wait_for WHAT COMMAND…: until it succeeds, a minute at most
wait_for() {
  local what=$1 i
  shift
  for ((i = 0; i < 600; ++i)); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  die 3 "waited for a minute in vain for $what; see the logs in $dir"
}
alive() { [[ -s $1 && -e /proc/$(<"$1") ]]; }
all_idle() { [[ $(sinfo --noheader --Node --partition low --format '%T') == $'idle\nidle' ]]; }

start() {
  need_slurm
  ! alive "$dir/slurmctld.pid" || die 2 "a Slurm of $dir runs already: cluster/slurm/local.sh stop $dir"
  install -d -m 0755 "$dir" "$dir/state"
  for node in "${NODES[@]}"; do install -d "$dir/spool-$node" "$dir/tmp-$node"; done
  rm -f "$dir"/spool-*/pmix.* # of nodes that were killed; slurmd stumbles over them
  write_configuration
  head -c 128 /dev/urandom >"$dir/munge.key"
  chmod 0400 "$dir/munge.key"
  # --force: whose folder DIR is in is the user's business
  munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" \
    --seed-file="$dir/munged.seed" --num-threads=2 || die 3 "munged does not start; see $dir/munged.log"
  wait_for "munged" test -S "$dir/munge.socket"
  slurmctld -c || die 3 "slurmctld does not start; see $dir/slurmctld.log"
  wait_for "slurmctld" scontrol ping
  # A host name and shared memory of their own: ranks of two nodes would else take each other's for theirs.
  for node in "${NODES[@]}"; do
    unshare --uts --ipc --mount sh -c 'hostname "$0" && mount -t tmpfs none /dev/shm && exec slurmd -N "$0"' "$node" ||
      die 3 "slurmd of $node does not start; see $dir/slurmd-$node.log"
  done
  wait_for "idle nodes" all_idle
}

stop() {
  need_slurm
  if alive "$dir/slurmctld.pid"; then
    scancel --user root 2>/dev/null
    local i
    for ((i = 0; i < 600; ++i)); do # KillWait at most
      [[ -n $(squeue --noheader 2>/dev/null) ]] || break
      sleep 0.1
    done
  fi
  local name pid
  for name in slurmd-n0 slurmd-n1 slurmctld munged; do
    alive "$dir/$name.pid" || continue
    pid=$(<"$dir/$name.pid")
    kill "$pid"
    wait_for "the end of $name" sh -c '! kill -0 "$1" 2>/dev/null || grep -q "^State:.*Z" "/proc/$1/status"' sh "$pid"
    rm -f "$dir/$name.pid"
  done
}

[[ $# == 2 ]] || {
  usage
  [[ ${1:-} == -h || ${1:-} == --help ]]
  exit
}
dir=$(realpath -m "$2")
[[ $dir != *' '* ]] || die 2 "Slurm wants a folder without spaces, got '$dir'"
export SLURM_CONF=$dir/slurm.conf
case $1 in
  start) start ;;
  stop) stop ;;
  status)
    need_slurm
    sinfo && squeue
    ;;
  *) die 2 "unknown action '$1'; see cluster/slurm/local.sh --help" ;;
esac
