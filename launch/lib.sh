# shellcheck shell=bash
# What the scripts of this project share; sourced, not run. Sets ROOT, the top folder of the clone.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }

# die EXIT_CODE MESSAGE…: 2 the user can fix it, 3 the surroundings failed, as for the program itself.
die() {
  local code=$1
  shift
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit "$code"
}

# quoted COMMAND…: the command as it can be pasted into a shell.
quoted() {
  local text
  printf -v text '%q ' "$@"
  printf '%s' "${text% }"
}

# run COMMAND…: prints the command, then runs it.
run() {
  printf '+ %s\n' "$(quoted "$@")"
  "$@"
}

# The gru4rec program: $GRU4REC, else the one built here, else the one installed with this script, else the one in PATH.
find_program() {
  if [[ -n ${GRU4REC:-} ]]; then
    [[ -x $GRU4REC ]] || die 2 "GRU4REC is set to '$GRU4REC', which is not a program. Unset it, or set it to the path of gru4rec."
    printf '%s\n' "$GRU4REC"
    return
  fi
  local candidate
  for candidate in "$ROOT"/build/{release,cuda,ci}/gru4rec "$ROOT/../../bin/gru4rec" "$(command -v gru4rec || true)"; do
    if [[ -n $candidate && -x $candidate ]]; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die 2 "no gru4rec program in $ROOT/build or PATH. Build it with launch/setup.sh, or set GRU4REC to its path."
}
