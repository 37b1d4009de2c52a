#!/usr/bin/env bash
# Hosts for tests on one machine: network namespaces joined by a bridge, each with its own host name and address. Ranks on two
# of them talk TCP and share no memory, as on two machines. Needs root and iproute2; no sshd, no container runtime.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: cluster/testhosts.sh up N | down | status | hostfile [SLOTS] | exec HOST COMMAND… | mpirun ARGUMENT… | link HOST STATE

  up N              makes the hosts node1 … nodeN (10.99.0.11 …)
  down              removes them, and ends what still runs on them
  status            lists them
  hostfile [SLOTS]  prints a hostfile with so many slots a host (default 1)
  exec HOST CMD…    runs a command on a host
  mpirun ARG…       runs launch/mpirun.sh on the first host, which reaches the others through this script instead of ssh
                    cluster/testhosts.sh hostfile >hosts && cluster/testhosts.sh mpirun -np 2 --hostfile hosts -- train …
  supervise ARG…    the same with launch/supervise.sh
  link HOST down    pulls the host's cable; link HOST up puts it back, at full speed
  link HOST slow R  sends and receives R at most, in units of tc: 100mbit

TESTHOSTS=NAME (default node) is the first part of the names; sets of different names do not see each other.
HELP
}

script=$(readlink -f "${BASH_SOURCE[0]}")
name=${TESTHOSTS:-node}
bridge=gru4rec-$name # a namespace that holds nothing but the bridge
netns_of() { printf 'gru4rec-%s' "$1"; }

die() {
  printf 'testhosts.sh: %s\n' "$2" >&2
  exit "$1"
}
need_root() {
  [[ $(id -u) == 0 ]] || die 2 "namespaces need root"
  command -v ip >/dev/null || die 2 "the command ip is missing; the package iproute2 brings it"
}
hosts() { ip netns list 2>/dev/null | awk '{print $1}' | sed -n "s/^gru4rec-\(${name}[0-9][0-9]*\)$/\1/p" | sort -V; }

up() {
  local count=$1 i host netns
  [[ $count =~ ^[1-9][0-9]?$ ]] || die 2 "up wants a number of hosts from 1 to 99, got '$count'"
  need_root
  [[ -z $(hosts) ]] || die 2 "there are hosts already: $(hosts | xargs). Remove them with: cluster/testhosts.sh down"
  ip netns add "$bridge"
  ip -n "$bridge" link set lo up
  ip -n "$bridge" link add br0 type bridge
  ip -n "$bridge" link set br0 up
  for ((i = 1; i <= count; ++i)); do
    host=$name$i
    netns=$(netns_of "$host")
    ip netns add "$netns"
    ip -n "$netns" link set lo up
    ip link add eth0 netns "$netns" type veth peer name "port$i" netns "$bridge"
    ip -n "$bridge" link set "port$i" master br0 up
    ip -n "$netns" addr add "10.99.0.$((10 + i))/24" dev eth0
    ip -n "$netns" link set eth0 up
    # A cut line shows after seconds instead of a quarter of an hour.
    ip netns exec "$netns" sysctl -q -w net.ipv4.tcp_retries2=3
    mkdir -p "/etc/netns/$netns"
    {
      echo '127.0.0.1 localhost'
      for ((j = 1; j <= count; ++j)); do echo "10.99.0.$((10 + j)) $name$j"; done
    } >"/etc/netns/$netns/hosts"
  done
}

down() {
  local netns pids
  need_root
  for netns in $(hosts | sed 's/^/gru4rec-/') "$bridge"; do
    ip netns list | awk '{print $1}' | grep -qx "$netns" || continue
    pids=$(ip netns pids "$netns")
    # shellcheck disable=SC2086
    [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
    ip netns delete "$netns"
    rm -rf "/etc/netns/${netns:?}"
  done
}

# enter HOST COMMAND…: in the host's network, with its name and its hosts file. It replaces this process.
enter() {
  local host=$1 netns
  shift
  [[ $host != 10.99.0.* ]] || host=$name$((${host##*.} - 10))
  netns=$(netns_of "$host")
  [[ -e /run/netns/$netns ]] || die 3 "there is no host '$host'; there are: $(hosts | xargs). Make some with: cluster/testhosts.sh up N"
  exec nsenter --net="/run/netns/$netns" unshare --uts --ipc --mount \
    sh -c 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"' "$host" "/etc/netns/$netns/hosts" "$@"
}

# link HOST down|up|slow [RATE]: at the bridge's end of the cable, so that the host itself sees nothing but silence.
link() {
  local host=$1 state=$2 rate=${3:-} port netns
  netns=$(netns_of "$host")
  [[ -e /run/netns/$netns ]] || die 3 "there is no host '$host'; there are: $(hosts | xargs)"
  port=port${host#"$name"}
  case $state in
    down) ip -n "$bridge" link set "$port" down ;;
    up)
      tc -n "$bridge" qdisc del dev "$port" root 2>/dev/null || true
      tc -n "$netns" qdisc del dev eth0 root 2>/dev/null || true
      ip -n "$bridge" link set "$port" up
      ;;
    slow)
      [[ -n $rate ]] || die 2 "link HOST slow wants a rate, such as 100mbit"
      command -v tc >/dev/null || die 2 "the command tc is missing; the package iproute2 brings it"
      # The burst: two of the 64 KiB that TCP hands over at once. With less than one, both ways together make half the rate.
      tc -n "$bridge" qdisc replace dev "$port" root tbf rate "$rate" burst 128kb latency 400ms
      tc -n "$netns" qdisc replace dev eth0 root tbf rate "$rate" burst 128kb latency 400ms
      ;;
    *) die 2 "link wants down, up or slow RATE, got '$state'" ;;
  esac
}

# rsh [OPTION…] HOST COMMAND LINE: what mpirun calls instead of ssh; as ssh does, the words are joined and given to a shell.
rsh() {
  while [[ ${1:-} == -* ]]; do shift; done
  local host=$1 netns
  shift
  netns=$(netns_of "$host")
  [[ ! -e /run/netns/$netns ]] || ip -n "$netns" -o link show eth0 | grep -q LOWER_UP || die 255 "the line to $host is cut"
  enter "$host" sh -c "$*"
}

[[ $# -gt 0 ]] || set -- --help
action=$1
shift
case $action in
  up) up "${1:-}" ;;
  down) down ;;
  status)
    need_root
    for host in $(hosts); do
      printf '%s 10.99.0.%d %d processes\n' "$host" $((10 + ${host#"$name"})) "$(ip netns pids "$(netns_of "$host")" | wc -l)"
    done
    ;;
  hostfile)
    need_root
    for host in $(hosts); do printf '%s slots=%d\n' "$host" "${1:-1}"; done
    ;;
  exec)
    need_root
    [[ $# -ge 2 ]] || die 2 "exec wants a host and a command"
    enter "$@"
    ;;
  mpirun | supervise)
    need_root
    enter "${name}1" env TESTHOSTS="$name" "$(dirname "$script")/../launch/$action.sh" --mca plm_rsh_agent "$script rsh" "$@"
    ;;
  link)
    need_root
    [[ $# -ge 2 ]] || die 2 "link wants a host and what to do with its cable: down, up or slow RATE"
    link "$@"
    ;;
  rsh) rsh "$@" ;;
  -h | --help) usage ;;
  *) die 2 "unknown action '$action'; see cluster/testhosts.sh --help" ;;
esac
