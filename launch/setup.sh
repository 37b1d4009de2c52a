#!/usr/bin/env bash
# From a fresh clone to a built program: Debian packages, the libraries that come in Python wheels, configure, build.
# What is already there is left alone, so it can be run again at any time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'HELP'
usage: launch/setup.sh [--cuda | --cpu] [--tests] [--results] [--recbole] [--no-build] [--preset NAME]

  --cuda         LibTorch with CUDA into .deps/venv-cuda (4.5 GB); chosen by itself where a GPU is seen
  --cpu          LibTorch for CPUs into .deps/venv (1.4 GB); chosen by itself elsewhere
  --tests        also what some tests need, into .deps/venv-tests
  --results      also what launch/results.sh draws with, into .deps/venv-results
  --recbole      also RecBole 1.2.1, which tests/bench/run.sh measures beside, into .deps/venv-recbole (5 GB)
  --no-build     stop after the dependencies
  --preset NAME  CMake preset to build; default: release, or cuda with --cuda

Installs Debian packages (launch/apt-packages.txt, with --tests also launch/apt-packages-tests.txt) only where some are missing,
which takes root or sudo.
HELP
}

# missing_packages LIST: prints what of it is not installed.
missing_packages() {
  local package
  grep -v '^#' "$1" | while read -r package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
  done
}

# install_packages LIST
install_packages() {
  local list=$1
  if ! command -v dpkg-query >/dev/null; then
    say "setup: not a Debian system; these must be there under whatever name: $(grep -v '^#' "$list" | xargs)"
    return
  fi
  local missing sudo=()
  mapfile -t missing < <(missing_packages "$list")
  if [[ ${#missing[@]} == 0 ]]; then
    say "setup: Debian packages of $(basename "$list"): all there"
    return
  fi
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null ||
      die 2 "Debian packages are missing, and there is neither root nor sudo to install them. Have an administrator run: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  say "setup: installing Debian packages: ${missing[*]}"
  local install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}")
  # Lists of packages may be absent or old; they are only renewed when what they say does not work.
  "${install[@]}" </dev/null >"$ROOT/.deps/apt.log" 2>&1 && return
  "${sudo[@]}" apt-get update -q </dev/null >>"$ROOT/.deps/apt.log" 2>&1 || true
  "${install[@]}" </dev/null >>"$ROOT/.deps/apt.log" 2>&1 ||
    die 3 "apt-get could not install the packages; $ROOT/.deps/apt.log ends with: $(tail -n 3 "$ROOT/.deps/apt.log")"
}

# install_wheels VENV REQUIREMENTS: the stamp holds the hash of the requirements, so a change of theirs installs anew.
install_wheels() {
  local venv=$1 requirements=$2 stamp=$1/.requirements.sha256 hash
  hash=$(sha256sum <"$requirements")
  if [[ -f $stamp && $(<"$stamp") == "$hash" ]]; then
    say "setup: ${venv#"$ROOT"/}: up to date"
    return
  fi
  say "setup: ${venv#"$ROOT"/}: installing $(basename "$requirements")"
  rm -f "$stamp"
  # A virtual environment whose Python has gone away does not run, and is made anew.
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python3 -m venv --clear "$venv" || die 3 "python3 -m venv $venv failed; the package python3-venv brings it on Debian"
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r "$requirements" ||
    die 3 "pip could not install $requirements into $venv; see its message above, then run this again"
  printf '%s\n' "$hash" >"$stamp"
}

gpu_seen() { [[ -e /dev/nvidia0 ]] || { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }; }

kind='' tests=no results=no recbole=no build=yes preset=''
while [[ $# -gt 0 ]]; do
  case $1 in
    --cuda | --cpu) kind=${1#--} ;;
    --tests) tests=yes ;;
    --results) results=yes ;;
    --recbole) recbole=yes ;;
    --no-build) build=no ;;
    --preset)
      [[ $# -gt 1 ]] || die 2 "--preset wants a name: release, debug, asan, tsan, cuda or ci"
      preset=$2
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die 2 "unknown option '$1'; see launch/setup.sh --help" ;;
  esac
  shift
done
if [[ -z $kind ]]; then
  kind=cpu
  if gpu_seen; then
    kind=cuda
    say "setup: a GPU is seen, so LibTorch with CUDA is taken (--cpu for the one without)"
  fi
fi

mkdir -p "$ROOT/.deps"
exec 9>"$ROOT/.deps/setup.lock" # one at a time; the kernel releases it when this process ends
flock 9
install_packages "$ROOT/launch/apt-packages.txt"
if [[ $tests == yes ]]; then # in a shell of its own, which may end without ending this one
  (install_packages "$ROOT/launch/apt-packages-tests.txt") || say "setup: the tests that need them will be skipped"
fi
if [[ $kind == cuda ]]; then
  install_wheels "$ROOT/.deps/venv-cuda" "$ROOT/launch/requirements-cuda.txt"
else
  install_wheels "$ROOT/.deps/venv" "$ROOT/launch/requirements-cpu.txt"
fi
[[ $tests == no ]] || install_wheels "$ROOT/.deps/venv-tests" "$ROOT/launch/requirements-tests.txt"
[[ $results == no ]] || install_wheels "$ROOT/.deps/venv-results" "$ROOT/launch/requirements-results.txt"
[[ $recbole == no ]] || install_wheels "$ROOT/.deps/venv-recbole" "$ROOT/tests/golden/requirements.txt"
[[ $build == yes ]] || exit 0

if [[ -z $preset ]]; then
  [[ $kind == cuda ]] && preset=cuda || preset=release
fi
cd "$ROOT"
say "setup: building preset $preset in build/$preset"
cmake --preset "$preset" >"$ROOT/.deps/configure-$preset.log" 2>&1 9>&- || {
  cat "$ROOT/.deps/configure-$preset.log" >&2
  die 3 "CMake could not configure preset $preset, see above"
}
target=(--target gru4rec) # the tests are tests/run.sh's
[[ $preset != tsan ]] || target=() # has no program
cmake --build --preset "$preset" "${target[@]}" 9>&-
say "setup: done: build/$preset${target[0]:+/gru4rec}"
