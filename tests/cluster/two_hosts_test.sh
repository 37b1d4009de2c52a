#!/usr/bin/env bash
# Laws of cluster/testhosts.sh: two hosts are two names without shared memory, reached through mpirun and launch/mpirun.sh; an
# error on the second host and a signal sent on the first end the job with the right code on both; launch/supervise.sh leaves out
# a host that cannot be reached. Two ranks of each host read each other's memory, and the sum of all four is the ordered one.
source "$(dirname "$0")/../launch/lib.sh"
source "$SOURCE/tests/cluster/lib.sh"
"$HOSTS" up 2 >"$LOG" 2>&1
expect_code 0 $? "testhosts.sh up 2"
"$HOSTS" up 2 >"$LOG" 2>&1
expect_code 2 $? "testhosts.sh up 2 again"
"$HOSTS" hostfile 2 >"$WORK/hosts"
CLUSTER=("$HOSTS" mpirun -np 4 --hostfile "$WORK/hosts")

timeout -k 5 60 "${CLUSTER[@]}" -- show >"$LOG" 2>&1
expect_code 0 $? "four ranks on two hosts"
expect_text "rank 1 of 4 on ${TESTHOSTS}1, local rank 1"
expect_text "rank 2 of 4 on ${TESTHOSTS}2, local rank 0"
expect_text "exchanged"
GRU4REC=$COMM_LAWS timeout -k 5 120 "${CLUSTER[@]}" -- \
  --gtest_filter='Mpi.*Sum*:Mpi.*Memory*:Mpi.Slices*:Mpi.NobodyReads*' >"$LOG" 2>&1
expect_code 0 $? "the laws of sums and of shared memory on two hosts"
expect_text "PASSED"
timeout -k 5 60 "${CLUSTER[@]}" -- throw >"$LOG" 2>&1
expect_code 2 $? "an error on the second host"

"${CLUSTER[@]}" -- wait >"$LOG" 2>&1 &
job=$!
wait_for_text 4 waits
kill -s TERM "$job"
wait "$job"
expect_code 138 $? "TERM to launch/mpirun.sh on the first host"
job=''
expect_text "saved on signal 10"

# launch/supervise.sh goes on with the host that is left when the line to the other is cut.
cat >"$WORK/trainer" <<END
#!/bin/sh
[ "\$1" = train ] && exec "$GRU4REC" show
printf 'replicas: 4\nrun_dir: $WORK/run\ncheckpoint_dir: $WORK/run/checkpoints\n'
END
chmod +x "$WORK/trainer"
GRU4REC=$WORK/trainer timeout -k 5 60 "$HOSTS" supervise --hostfile "$WORK/hosts" -- train >"$LOG" 2>&1
expect_code 0 $? "supervised on two hosts"
expect_text "start 1: 4 rank(s) on ${TESTHOSTS}1 ${TESTHOSTS}2"
expect_text "rank 3 of 4 on ${TESTHOSTS}2, local rank 1"
ip -n "gru4rec-$TESTHOSTS" link set port2 down
GRU4REC=$WORK/trainer timeout -k 5 60 "$HOSTS" supervise --hostfile "$WORK/hosts" -- train >"$LOG" 2>&1
expect_code 0 $? "supervised on the host that is left"
expect_text "${TESTHOSTS}2 does not answer and is left out"
expect_text "rank 1 of 2 on ${TESTHOSTS}1, local rank 1"

"$HOSTS" down
[[ -z $("$HOSTS" status) ]] || fail "testhosts.sh down left hosts behind"
