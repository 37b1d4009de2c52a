#!/usr/bin/env bash
# Laws of the installation: the program runs from another prefix without LD_LIBRARY_PATH, and a project that says
# find_package(gru4rec) compiles, links and runs. usage: package_test.sh BUILD_FOLDER
set -euo pipefail
build=$1
source=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset LD_LIBRARY_PATH

cmake --install "$build" --prefix "$work/prefix" >"$work/install.log" || { cat "$work/install.log" >&2; exit 1; }
"$work/prefix/bin/gru4rec" --help >"$work/help"
grep -q train "$work/help"
# What needs LibTorch is another program, beside it.
refuses() { # refuses TEXT ARGUMENT…: with code 2
  local code=0 text=$1
  shift
  "$work/prefix/bin/gru4rec" "$@" >"$work/refusal" 2>&1 || code=$?
  [[ $code == 2 ]] && grep -qF "$text" "$work/refusal" || { cat "$work/refusal" >&2; exit 1; }
}
refuses "$work/nowhere" inspect "$work/nowhere"
refuses "$work/nowhere" recommend --checkpoint "$work/nowhere" --session -h # an item's id, and no call for help
mv "$work/prefix/bin/gru4rec-torch" "$work"
refuses "cannot start $work/prefix/bin/gru4rec-torch: No such file or directory. It belongs beside gru4rec" inspect "$work/nowhere"
mv "$work/gru4rec-torch" "$work/prefix/bin"
GRU4REC='' "$work/prefix/share/gru4rec/launch/mpirun.sh" -np 1 --dry-run -- train | grep -qF "/bin/gru4rec train"
if grep -rlF "$(dirname "$source" | xargs dirname)/src" "$work/prefix/lib/cmake"; then
  echo "FAILED: the installed CMake files name the source folder" >&2
  exit 1
fi

cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release >"$work/cmake.log" 2>&1 ||
  { cat "$work/cmake.log" >&2; exit 1; }
cmake --build "$work/build" >"$work/build.log" || { cat "$work/build.log" >&2; exit 1; }
"$work/build/consumer"
