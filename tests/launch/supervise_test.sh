#!/usr/bin/env bash
# Laws of launch/supervise.sh, with a program that only pretends to train: which codes are started again, how often without a newer
# checkpoint, on which hosts, and that a stop signal reaches the ranks and ends it.
source "$(dirname "$0")/lib.sh"
export WHERE_AM_I=$GRU4REC GRU4REC=$WORK/program RUN=$WORK/run OMPI_MCA_btl=self,vader,tcp
SUPERVISE=$SOURCE/launch/supervise.sh
# `train CODE` ends with it at once, `train 3 N` after writing a checkpoint, but with 0 when there are N; `train wait` waits for a
# signal, `train refused` ends with 3, then twice with 2, then with 0.
cat >"$GRU4REC" <<'END'
#!/usr/bin/env bash
if [[ $1 == options ]]; then
  printf 'replicas: %s\nrun_dir: %s\ncheckpoint_dir: %s # empty: RUN_DIR/checkpoints\n' "${REPLICAS:-0}" "$RUN" "'$RUN/saved here'"
  exit
fi
[[ $OMPI_COMM_WORLD_RANK == 0 ]] || exec sleep infinity # until mpirun ends it
echo "ranks $OMPI_COMM_WORLD_SIZE: $*"
if [[ $2 == wait ]]; then exec "$WHERE_AM_I" wait; fi
if [[ $2 == refused ]]; then
  echo >>"$RUN/starts"
  codes=(3 2 2 0)
  exit "${codes[$(wc -l <"$RUN/starts") - 1]}"
fi
if [[ $3 =~ ^[0-9]+$ ]]; then
  written=$(ls "$RUN/saved here" | wc -l)
  [[ $written -lt $3 ]] || exit 0
  printf -v name 'step-%08d.h5' $((written + 1))
  : >"$RUN/saved here/$name"
fi
exit "$2"
END
chmod +x "$GRU4REC"
fresh() { rm -rf "$RUN" && mkdir -p "$RUN/saved here"; }
starts() { grep -c '^supervise.sh: start ' "$LOG"; }
supervise() { timeout -k 5 120 "$SUPERVISE" --backoff 0.1 "$@" >"$LOG" 2>&1; }

"$SUPERVISE" -- train >"$LOG" 2>&1
expect_code 2 $? "neither --np nor --hostfile"
"$SUPERVISE" --np 2 -- evaluate >"$LOG" 2>&1
expect_code 2 $? "not train"
"$SUPERVISE" --np 2 --restarts many -- train >"$LOG" 2>&1
expect_code 2 $? "--restarts many"

for code in 2 4; do
  fresh
  supervise --np 1 -- train $code
  expect_code $code $? "train ends with $code"
  [[ $(starts) == 1 ]] || fail "$code was started $(starts) times"
done
fresh
supervise --np 2 --restarts 2 -- train 3
expect_code 3 $? "train always ends with 3"
[[ $(starts) == 3 ]] || fail "two restarts are three starts, not $(starts)"
expect_text "ranks 2: train 3 --replicas 2 --resume"
expect_text "in 0.2 s"
# Each newer checkpoint begins the count anew.
fresh
supervise --np 1 --restarts 1 -- train 3 2
expect_code 0 $? "two crashes, each after a newer checkpoint"
[[ $(starts) == 3 ]] || fail "two crashes are three starts, not $(starts)"
expect_text "done after 3 start(s)"
# What is refused after a crash may be granted later.
fresh
supervise --np 1 -- train refused
expect_code 0 $? "refused twice after a crash"
[[ $(starts) == 4 ]] || fail "a crash and two refusals are four starts, not $(starts)"
# What is settled is left as it is.
fresh
REPLICAS=5 supervise --np 1 -- train 2
expect_text "ranks 1: train 2 --resume"

# Hosts: this one, and one that answers only while the file is there.
cat >"$WORK/agent" <<'END'
#!/usr/bin/env bash
echo "asked $1" >>"$0.log"
exit 255
END
chmod +x "$WORK/agent"
printf '# two machines\nlocalhost slots=2\nfar-away slots=3 # not there\n' >"$WORK/hosts"
fresh
supervise --hostfile "$WORK/hosts" --mca plm_rsh_agent "$WORK/agent" -- train 2
expect_code 2 $? "one of two hosts"
grep -qx "asked far-away" "$WORK/agent.log" || fail "the host was not asked through mpirun's agent"
expect_text "far-away does not answer and is left out"
expect_text "start 1: 2 rank(s) on localhost"
expect_text "ranks 2: train 2 --replicas 5 --resume"
sed -i /localhost/d "$WORK/hosts"
fresh
supervise --hostfile "$WORK/hosts" --restarts 1 --mca plm_rsh_agent "$WORK/agent" -- train 2
expect_code 3 $? "no host"
[[ $(grep -c "no host answers" "$LOG") == 2 ]] || fail "it did not ask again"

# Signals: the first lets the ranks save, and nothing is started again.
set -m
for signal in TERM INT; do
  fresh
  : >"$LOG"
  "$SUPERVISE" --np 1 -- train wait >"$LOG" 2>&1 &
  job=$!
  wait_for_text 1 waits
  kill -s $signal "$job"
  wait "$job"
  expect_code 138 $? "$signal"
  expect_text "saved on signal 10"
  [[ $(starts) == 1 ]] || fail "started again after $signal"
done
# Before a restart: at once.
fresh
: >"$LOG"
"$SUPERVISE" --np 1 --backoff 1000 -- train 3 >"$LOG" 2>&1 &
job=$!
wait_for_text 1 "in 300 s"
kill -s TERM "$job"
wait "$job"
expect_code 138 $? "TERM before a restart"
[[ $(starts) == 1 ]] || fail "started again after TERM"
