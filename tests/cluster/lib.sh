# shellcheck shell=bash
# What the tests on test hosts share; sourced after the lib.sh of tests/launch or tests/end_to_end. Sets HOSTS and TESTHOSTS, and
# skips where there can be no hosts. `cleanup` removes them and the work folder, on any way out.
skip() {
  echo "skipped: $*"
  exit 77
}
[[ $(id -u) == 0 ]] || skip "network namespaces need root"
command -v ip tc >/dev/null || skip "the commands ip and tc are missing (package iproute2)"
export TESTHOSTS=law$$x
HOSTS=$SOURCE/cluster/testhosts.sh
probe=gru4rec-probe$$
{ ip netns add "$probe" && ip netns delete "$probe"; } 2>/dev/null || skip "this machine does not allow network namespaces"
job=''
cleanup() {
  "$HOSTS" down || true # ends what runs there
  [[ -z $job ]] || kill -KILL "$job" 2>/dev/null || true
  cd / && rm -rf "$WORK"
}
trap cleanup EXIT
