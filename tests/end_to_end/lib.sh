# What the end-to-end tests share: made-up data, the program under mpirun, checks. Sourced by each; they get the program as $1.
set -euo pipefail

PROGRAM=$(realpath "$1")
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 NO_COLOR=1
MPIRUN=(mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca btl self,vader,tcp)

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

# make_data [SESSIONS [ITEMS]]: data/example/example.inter, sessions in which item i is mostly followed by 5 i + 1.
make_data() {
  mkdir -p data/example
  awk -v sessions="${1:-240}" -v items="${2:-97}" 'BEGIN {
    OFS = "\t"; srand(7); print "user_id:token", "item_id:token", "timestamp:float"
    for (u = 1; u <= sessions; ++u) {
      n = 4 + int(rand() * 30); item = int(rand() * items)
      for (i = 0; i < n; ++i) { print u, "i" item, u * 100 + i; item = rand() < 0.8 ? (5 * item + 1) % items : int(rand() * items) }
    }
  }' >data/example/example.inter
}

# prepare_stages: data split by sessions, and a run that is long enough to be followed by an adaptation (ADAPT).
prepare_stages() {
  local split=(--eval_args '{split: {TS: {test: 0.15, valid: 0.15}}}')
  make_data
  ingest "${split[@]}"
  OPTIONS+=("${split[@]}" --epochs 12 --stopping_step 100)
  ADAPT=(--adapt_fraction 1/4 --adapt_epochs 40 --adapt_learning_rate 0.005)
}

OPTIONS=(--config "$SOURCE/configs/tiny.yaml" --dataset example --data_path data)
ingest() { "$PROGRAM" ingest "${OPTIONS[@]}" "$@" >ingest.log 2>&1 || { cat ingest.log >&2; fail "ingest $*"; }; }

# train RANKS RUN [OPTION…]: under mpirun; in RUN.log what it says on stderr and then what on stdout, as mpirun hands on pieces of
# both as they come, and one may end up within a line of the other
train() {
  local ranks=$1 run=$2 code=0
  shift 2
  "${MPIRUN[@]}" -np "$ranks" "$PROGRAM" train "${OPTIONS[@]}" --run_dir "$run" "$@" >"$run.out" 2>"$run.log" || code=$?
  cat "$run.out" >>"$run.log"
  return "$code"
}
digest() { "$PROGRAM" inspect "$1" --digest; }

# wait_until WHAT COMMAND…: until it succeeds. The limit is there for what never comes; nothing depends on it.
wait_until() {
  local what=$1 i
  shift
  for ((i = 0; i < 1200; ++i)); do
    if "$@"; then return; fi
    sleep 0.1
  done
  fail "waited for two minutes in vain: $what"
}
# newest_in FOLDER: its last checkpoint, while others may be removed. last_epoch RUN: the number of the last one in metrics.jsonl
newest_in() { find "$1" -name 'step-*.h5' 2>/dev/null | sort | tail -n 1 || true; }
last_epoch() { sed -n 's/.*"epoch":\([0-9]*\).*/\1/p' "$1/metrics.jsonl" 2>/dev/null | tail -n 1 || true; }
# has_newer_than FOLDER CHECKPOINT
has_newer_than() { [[ $(newest_in "$1") > $2 ]]; }
# wait_for_step RUN: until a first line of metrics is there
wait_for_step() { wait_until "run $1 gets going" test -s "$1/metrics.jsonl"; }

# is_rank PID: whether a process is a rank, which the program has become, and not mpirun or a shell around it
is_rank() { [[ $(readlink "/proc/$1/exe" 2>/dev/null) == "$(readlink -f "$PROGRAM")-torch" ]]; }

# pid_of_rank RUN RANK: of the program itself, not of mpirun or a shell around it
pid_of_rank() {
  local pid
  for pid in $(pgrep -f "train .*--run_dir $1 "); do
    is_rank "$pid" || continue
    if tr '\0' '\n' <"/proc/$pid/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$2"; then echo "$pid"; return; fi
  done
  fail "rank $2 of $1 was not found"
}

# expect_equal WHAT GOT WANTED
expect_equal() { [[ $2 == "$3" ]] || fail "$1: got '$2', wanted '$3'"; }
# expect_line FILE PATTERN
expect_line() { grep -qE -- "$2" "$1" || { tail -n 20 "$1" >&2; fail "no line of $1 matches: $2"; }; }
# expect_code WANTED COMMAND…
expect_code() {
  local wanted=$1 got=0
  shift
  "$@" || got=$?
  [[ $got == "$wanted" ]] || fail "exit code $got instead of $wanted: $*"
}
