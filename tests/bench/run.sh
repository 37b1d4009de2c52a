#!/usr/bin/env bash
# Everything of docs/performance.md: measures on one core, everything compared in alternation, and writes tables and plots.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"

usage() {
  cat <<'HELP'
usage: tests/bench/run.sh [--quick] [--only SECTION,…] [--peer recbole] [--peer gru4rec --gru4rec_code DIR] [--core N]
                          [--rounds N] [--former PROGRAM] [--out DIR] [--tables] [--docs]

Sections, in this order; all that need no peer unless --only names some:

  step           a training step, the softmax and the GRU against their own matrix products, and against LibTorch's nn::GRU and
                 cross_entropy on the same batch
  recbole        --peer recbole: targets a second and time to quality beside RecBole 1.2.1 on ml-100k (an hour and more)
  gru4rec        --peer gru4rec: targets a second beside the official GRU4Rec (hidasib/GRU4Rec_PyTorch_Official)
  ranks          two ranks against two runs of one rank side by side; takes two cores
  catalogues     time and peak memory with 1,000 to 1,000,000 items
  instructions   a step without AMX, without the bf16 of AVX-512, and without AVX-512
  ingest         events a second from CSV, TSV and Parquet
  startup        from the start of `train` to the end of its second step
  checkpoints    what a checkpoint of 1 GB costs, in turn and in the background; takes all cores

  --quick             one round of everything, RecBole for one epoch only, at most 10,000 items
  --only A,B          these sections
  --peer NAME         recbole or gru4rec; both run in .deps/venv-recbole, which is made here (5 GB)
  --gru4rec_code DIR  a clone of the official code, which is not fetched here
  --core N            the core that all run on but `ranks`, and half of `checkpoints`; default: 0
  --rounds N          default: 5, and 1 with --quick
  --former PROGRAM    another gru4rec, beside which ingest is measured; the stores have to be equal
  --out DIR           default: build/bench. A section that is measured again replaces what it left there.
  --tables            measures nothing: tables and plots of what is in DIR
  --docs              also writes the tables into docs/performance.md

Prints the tables, and leaves them in DIR/tables.md, plots in DIR/*.svg and *.png, what was measured in DIR/*.json. Nothing decides a
test here: machines are noisy, so look at min and max.
HELP
}

plain=(step ranks catalogues instructions ingest startup checkpoints)
all=(step recbole gru4rec ranks catalogues instructions ingest startup checkpoints)
only='' peers=() code='' core=0 out=$ROOT/build/bench tables=no arguments=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick | --docs) arguments+=("$1") ;;
    --tables) tables=yes arguments+=("$1") ;;
    --only | --peer | --gru4rec_code | --core | --rounds | --former | --out)
      [[ $# -gt 1 ]] || die 2 "$1 wants a value; see tests/bench/run.sh --help"
      case $1 in
        --only) only=$2 ;;
        --peer)
          [[ $2 == recbole || $2 == gru4rec ]] || die 2 "--peer got '$2', wanted recbole or gru4rec"
          peers+=("$2")
          ;;
        --gru4rec_code) code=$2 ;;
        --core) core=$2 ;;
        --rounds)
          [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || die 2 "--rounds got '$2', wanted a number from 1 on"
          arguments+=("$1" "$2")
          ;;
        --former)
          [[ -x $2 ]] || die 2 "--former got '$2', which is not a program"
          arguments+=("$1" "$(realpath "$2")")
          ;;
        --out) out=$(realpath -m "$2") ;;
      esac
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die 2 "unknown option '$1'; see tests/bench/run.sh --help" ;;
  esac
  shift
done

has() { # has NAME NAME…: whether the first is among the others
  local wanted=$1 name
  shift
  for name in "$@"; do [[ $name != "$wanted" ]] || return 0; done
  return 1
}
sections=("${plain[@]}" "${peers[@]}")
if [[ -n $only ]]; then
  IFS=, read -ra sections <<<"$only"
  for section in "${sections[@]}"; do
    has "$section" "${all[@]}" || die 2 "--only got '$section', wanted some of ${all[*]}, separated by commas"
    if ! has "$section" "${plain[@]}" "${peers[@]}" && [[ $tables == no ]]; then
      die 2 "the section $section needs --peer $section"
    fi
  done
fi
if [[ ! $core =~ ^[0-9]+$ ]] || ! taskset -c "$core" true 2>/dev/null; then
  die 2 "--core got '$core', which is not a core this process may run on"
fi
if has gru4rec "${sections[@]}" && [[ $tables == no ]]; then
  [[ -n $code ]] || die 2 "--peer gru4rec needs --gru4rec_code DIR: git clone https://github.com/hidasib/GRU4Rec_PyTorch_Official DIR"
  [[ -f $code/run.py && -f $code/gru4rec_pytorch.py ]] || die 2 "--gru4rec_code got '$code', where there is no run.py and gru4rec_pytorch.py"
  code=$(realpath "$code")
fi

cd "$ROOT"
setup=(launch/setup.sh --results --no-build)
if [[ $tables == no ]]; then
  [[ ${#peers[@]} == 0 ]] || setup+=(--recbole)
  run "${setup[@]}"
  run launch/fetch-ml-100k.sh
  cmake --preset release >/dev/null
  run cmake --build --preset release --target gru4rec bench_step event_files
else
  run "${setup[@]}"
fi
arguments+=(--program build/release/gru4rec --step_program build/release/bench_step --event_files build/release/event_files --out "$out" --core "$core")
arguments+=(--recbole_python "$ROOT/.deps/venv-recbole/bin/python" --gru4rec_code "$code")
run .deps/venv-results/bin/python tests/bench/run.py "${arguments[@]}" "${sections[@]}"
