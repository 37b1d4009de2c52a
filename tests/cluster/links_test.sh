#!/usr/bin/env bash
# Law: a run on two hosts goes on over a link that has become slow, ends with a code of its own when the link goes down, and goes
# on from its last checkpoint when it is up again, to the digest of a run in one process.
source "$(dirname "$0")/../end_to_end/lib.sh"
source "$SOURCE/tests/cluster/lib.sh"
export GRU4REC=$PROGRAM

has_epochs() { [[ $(last_epoch run) -ge $1 ]]; }
has_ended() { ! kill -0 "$job" 2>/dev/null; }
start() { # start EPOCHS
  timeout -k 5 300 "$HOSTS" mpirun -np 2 --hostfile hosts -- train "${OPTIONS[@]}" --run_dir run --resume \
    --epochs "$1" --stopping_step 1000000 --comm_timeout 60 >link.log 2>&1 &
  job=$!
}

make_data 1500
ingest
"$HOSTS" up 2
"$HOSTS" hostfile >hosts
start 1000000
wait_for_step run
"$HOSTS" link "${TESTHOSTS}2" slow 20mbit
wait_until "two epochs over a slow link" has_epochs $(($(last_epoch run) + 2))
"$HOSTS" link "${TESTHOSTS}2" up
wait_until "two epochs over the link as it was" has_epochs $(($(last_epoch run) + 2))

since=${EPOCHREALTIME/./}
"$HOSTS" link "${TESTHOSTS}2" down
wait_until "the job ends without the second host" has_ended
code=0
wait "$job" || code=$?
job=''
printf 'code %d after %d ms: link down\n' "$code" $(((${EPOCHREALTIME/./} - since) / 1000))
# 205 is mpirun's, 3 the program's: whoever notices first. 124 would be the limit of this test.
[[ $code == 205 || $code == 3 ]] || { tail -n 20 link.log >&2; fail "exit code $code instead of 205 or 3"; }
wait_until "rank 0 is gone" flock --nonblock run/.lock true

"$HOSTS" link "${TESTHOSTS}2" up
epochs=$(($(last_epoch run) + 3))
start "$epochs"
wait "$job" || { tail -n 20 link.log >&2; fail "the run does not go on over a link that is up again"; }
job=''
"$PROGRAM" train "${OPTIONS[@]}" --run_dir whole --epochs "$epochs" --stopping_step 1000000 >whole.log 2>&1
expect_equal "digest on two hosts, $epochs epochs" "$(digest run)" "$(digest whole)"
