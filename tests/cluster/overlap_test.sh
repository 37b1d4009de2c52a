#!/usr/bin/env bash
# Law: with overlap a run on two hosts, on three ranks, ends with the digest of one process. The item table has several blocks.
source "$(dirname "$0")/../end_to_end/lib.sh"
source "$SOURCE/tests/cluster/lib.sh"
export GRU4REC=$PROGRAM
make_data 900 9001
ingest
"$HOSTS" up 2 >up.log 2>&1 || { cat up.log >&2; fail "testhosts.sh up 2"; }
"$HOSTS" hostfile 2 >hosts
options=(--replicas 4 --epochs 1)
"$PROGRAM" train "${OPTIONS[@]}" --run_dir whole "${options[@]}" >whole.log 2>&1 || { cat whole.log >&2; fail "one process"; }
items=$(sed -nE 's/.* events, ([0-9]+) items;.*/\1/p' whole.log)
((items > 4096)) || fail "$items items: the table has one block"
timeout -k 5 200 "$HOSTS" mpirun -np 3 --hostfile hosts -- train "${OPTIONS[@]}" --run_dir overlap "${options[@]}" \
  --overlap true >overlap.log 2>&1 || { cat overlap.log >&2; fail "two hosts"; }
expect_line overlap.log "rank 2 \(host ${TESTHOSTS}2, "
expect_line overlap.log 'overlap: a second thread of each rank'
expect_equal "digest on two hosts" "$(digest overlap)" "$(digest whole)"
