#!/usr/bin/env bash
# Law: a disk that is full or read-only during a checkpoint, a shard that is cut off or overwritten during training, and a rank
# without memory each end the job with the code and the sentence of docs/reliability.md. What is lost came after the last
# checkpoint: the run that went through all of them ends with the digest of one that went through none.
#
# Every fault comes when a checkpoint of this start was seen, into a run that has no end of its own; nothing depends on time.
source "$(dirname "$0")/../end_to_end/lib.sh"

disks=no # of our own, in a mount namespace of our own
if [[ ${OWN_MOUNTS:-} == yes ]]; then
  disks=yes
elif [[ $(id -u) == 0 ]] && unshare --mount sh -c 'mount -t tmpfs none /mnt' 2>/dev/null; then
  cd / && rm -rf "$WORK"
  exec env OWN_MOUNTS=yes unshare --mount "$SOURCE/tests/fault/faults.sh" "$PROGRAM"
fi
job=''
cleanup() {
  [[ -z $job ]] || kill -TERM "$job" 2>/dev/null || true
  while umount "$WORK/run/checkpoints" 2>/dev/null; do :; done
  rm -rf "$WORK"
}
trap cleanup EXIT

# start: goes on with the run, on two ranks, until a checkpoint of this start is there
start() {
  local before
  before=$(newest_in run/checkpoints)
  timeout -k 5 300 "${MPIRUN[@]}" -np 2 "$PROGRAM" train "${OPTIONS[@]}" --run_dir run --resume --epochs 1000000 --stopping_step 1000000 \
    >fault.log 2>&1 &
  job=$!
  wait_until "a checkpoint after '$before'" has_newer_than run/checkpoints "$before"
}
has_ended() { ! kill -0 "$job" 2>/dev/null; }
# expect_end CODE PATTERN: the job ends by itself, with this code and message, and leaves a checkpoint that holds
expect_end() {
  local code=0 since=${EPOCHREALTIME/./}
  wait_until "the job ends with $1: $2" has_ended
  wait "$job" || code=$?
  job=''
  [[ $code == "$1" ]] || { cat fault.log >&2; fail "exit code $code instead of $1"; }
  expect_line fault.log "$2"
  printf 'code %d after %d ms: %s\n' "$1" $(((${EPOCHREALTIME/./} - since) / 1000)) "$2"
}

make_data 1500
ingest
mkdir -p run/checkpoints
if [[ $disks == yes ]]; then
  mount -t tmpfs -o size=1m none run/checkpoints
  start
  fill() { # again and again, as the run removes old checkpoints
    cat /dev/zero >>run/checkpoints/filler 2>/dev/null || true
    has_ended
  }
  wait_until "the job ends on a full disk" fill
  expect_end 3 'run/checkpoints/.*No space left on device'
  rm run/checkpoints/filler
  start
  mount -t tmpfs -o ro none run/checkpoints
  expect_end 3 'run/checkpoints/.*Read-only file system'
  umount run/checkpoints
else
  echo "left out: full and read-only disks, which need root and mount namespaces"
fi

shard=$(echo store/example/shard-*.h5)
cp "$shard" sound
start
truncate --size 1000 "$shard"
expect_end 2 "$shard ends at byte 1000"
cp sound "$shard"
start
head -c "$(stat -c %s sound)" /dev/zero | dd of="$shard" conv=notrunc status=none
expect_end 2 "$shard was changed while it was in use"
cp sound "$shard"

# A rank that may have 100 MiB more than one of a small model has at its peak, with a model that takes 500.
start
peak=$(awk '/^VmPeak:/ { print $2 }' "/proc/$(pid_of_rank run 1)/status")
kill -KILL "$(pid_of_rank run 0)"
expect_end 137 .
BIG=("$PROGRAM" train "${OPTIONS[@]}" --run_dir big --hidden_size 3072 --epochs 1000000 --stopping_step 1000000)
timeout -k 5 300 "${MPIRUN[@]}" -np 1 "${BIG[@]}" : -np 1 prlimit --as=$(((peak + 102400) * 1024)) "${BIG[@]}" >fault.log 2>&1 &
job=$!
expect_end 3 'rank 1 .*out of memory: .*train_batch_size'

# All of it in one process, and once more without a fault.
epochs=$(($(last_epoch run) + 2))
"$PROGRAM" train "${OPTIONS[@]}" --run_dir run --resume --epochs "$epochs" --stopping_step 1000000 >fault.log 2>&1
"$PROGRAM" train "${OPTIONS[@]}" --run_dir whole --epochs "$epochs" --stopping_step 1000000 >whole.log 2>&1
expect_equal "digest after all faults, $epochs epochs" "$(digest run)" "$(digest whole)"
