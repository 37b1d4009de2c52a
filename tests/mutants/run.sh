#!/usr/bin/env bash
# Breaks a copy of the source on purpose, one patch at a time, and requires that the tests a patch names fail.
#
# usage: [TALLY=FILE] [MUTANTS_SECONDS=N] tests/mutants/run.sh [PATCH…]         all of tests/mutants/*.patch without arguments
#
# A patch is the output of `git diff` with header lines above it:
#   # kills: REGEX     the ctest names of which at least one must fail
#   # why: TEXT        what goes wrong in the world if this mistake is made
#   # needs: FLAG      of /proc/cpuinfo, where only such processors run the code; elsewhere the patch is skipped
# A patch that does not apply, does not build, names no test or names tests that fail without it is a failure of the patch.
# The last line is `N passed, N failed, N skipped`, a killed mutant counting as passed. A patch that had no time left within
# MUTANTS_SECONDS (default 2400, the first build apart) counts as failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../launch/lib.sh"

export LC_ALL=C # one order of names for sort and comm
tree=$ROOT/build/mutants build=$ROOT/build/mutants/build/ci
limit=${MUTANTS_SECONDS:-2400}
mkdir -p "$tree"
exec 9>"$tree/.lock"
flock -n 9 || die 2 "another run uses $tree; wait for it to end"

patches=("$@")
[[ $# -gt 0 ]] || patches=("$ROOT"/tests/mutants/*.patch)
for i in "${!patches[@]}"; do
  patches[i]=$(realpath "${patches[i]}")
  [[ -r ${patches[i]} ]] || die 2 "cannot read ${patches[i]}; patches are kept in tests/mutants"
done

# The copy: only what differs is written, and with a new time, so that only that is compiled again. Files that the last run left
# broken are mended by this as well.
refresh_copy() {
  git -C "$ROOT" ls-files -z --cached --others --exclude-standard | sort -z >"$tree/.files"
  local file
  while IFS= read -r -d '' file; do
    [[ -f $ROOT/$file ]] || continue
    cmp -s "$ROOT/$file" "$tree/$file" || {
      mkdir -p "$tree/$(dirname "$file")"
      cp --no-preserve=timestamps "$ROOT/$file" "$tree/$file"
      chmod --reference="$ROOT/$file" "$tree/$file"
    }
  done <"$tree/.files"
  (cd "$tree" && find . \( -path ./build -o -path ./.git -o -name .files -o -name .lock \) -prune -o -type f -printf '%P\0' |
    sort -z | comm -z -23 - .files | xargs -0r rm -f)
  ln -sfn "$ROOT/.deps" "$tree/.deps"
  [[ -d $tree/.git ]] || git -C "$tree" init -q # so that `git apply` takes paths from here
}

why_not_here() { # why_not_here PATCH: empty if it can be tried
  local flag
  flag=$(header needs "$1")
  [[ -z $flag ]] || grep -qw "$flag" /proc/cpuinfo || echo "this processor has no $flag"
}

header() { sed -n "s/^# *$1: *//p" "$2" | head -n 1; } # header KEY PATCH

# programs_of REGEX: the files in the build folder that the tests of a regex run, to be built; needs a full build before.
programs_of() {
  ctest --test-dir "$build" -R "$1" --show-only=json-v1 | python3 -c '
import json, os, sys
build, found = sys.argv[1], set()
for test in json.load(sys.stdin)["tests"]:
    for word in test.get("command", []):
        if word.startswith(build + "/") and os.access(word, os.X_OK) and os.path.isfile(word):
            found.add(os.path.relpath(word, build))
print("\n".join(sorted(found)))' "$build"
}

run_tests() { # run_tests REGEX LOG [CTEST ARGUMENT…]
  local regex=$1 log=$2
  shift 2
  ctest --test-dir "$build" -R "$regex" --no-tests=error --output-on-failure --parallel "$(nproc)" "$@" >"$log" 2>&1 </dev/null
}

# try_patch PATCH: prints the verdict; 0 if the mutant was killed
try_patch() {
  local patch=$1 name kills start=$SECONDS log=$tree/build/log programs
  name=$(basename "$patch")
  kills=$(header kills "$patch")
  [[ -n $kills && -n $(header why "$patch") ]] || { say "FAILED: $name: the headers '# kills: REGEX' and '# why: TEXT' are wanted"; return 1; }
  mapfile -t programs < <(programs_of "$kills")
  [[ ${#programs[@]} -gt 0 && -n ${programs[0]} ]] || { say "FAILED: $name: no test is named '$kills'"; return 1; }
  git -C "$tree" apply --whitespace=nowarn "$patch" >"$log" 2>&1 || { say "FAILED: $name: does not apply: $(head -n 1 "$log")"; return 1; }
  local verdict=1
  if ! timeout 600 ninja -C "$build" "${programs[@]}" >"$log" 2>&1; then
    say "FAILED: $name: does not build: $(grep -m 1 -E 'error|FAILED' "$log")"
  elif run_tests "$kills" "$log" --stop-on-failure; then
    say "FAILED: $name: survived '$kills': $(header why "$patch")"
  elif ! grep -qE '^[0-9]+% tests passed' "$log"; then
    say "FAILED: $name: ctest did not run: $(tail -n 1 "$log")"
  else
    say "killed: $name by $(sed -nE 's/^\t *[0-9]+ - (.*) \((Failed|Timeout|SEGFAULT|Subprocess aborted|.*)\).*/\1/p' "$log" | head -n 1) ($((SECONDS - start)) s)"
    verdict=0
  fi
  git -C "$tree" apply -R --whitespace=nowarn "$patch"
  return $verdict
}

refresh_copy
# The compiler cache knows a file by its content and its path below the top folder, so a build of the clone itself helps here.
export CCACHE_BASEDIR=$tree CCACHE_NOHASHDIR=1
mkdir -p "$tree/build"
if ! (cd "$tree" && cmake --preset ci && cmake --build --preset ci) >"$tree/build/log" 2>&1; then
  grep -E -A 10 'CMake Error|FAILED|error:' "$tree/build/log" | head -n 40
  die 4 "the source does not build without any patch; $tree/build/log has it all"
fi

all=$(for patch in "${patches[@]}"; do header kills "$patch"; done | sort -u | paste -sd '|')
if [[ -n $all ]] && ! run_tests "$all" "$tree/build/log"; then
  sed -n '/tests passed/,$p' "$tree/build/log"
  die 4 "some tests that the patches name fail without any patch, or do not exist; mend those first"
fi

passed=0 failed=0 skipped=0 start=$SECONDS
for patch in "${patches[@]}"; do
  why=$(why_not_here "$patch")
  if [[ -n $why ]]; then
    say "skipped: $(basename "$patch"): $why"
    skipped=$((skipped + 1))
  elif ((SECONDS - start > limit)); then
    say "FAILED: $(basename "$patch"): not tried, the $limit s of MUTANTS_SECONDS are over"
    failed=$((failed + 1))
  elif try_patch "$patch"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
done
if [[ -n ${TALLY:-} ]]; then
  before=(0 0 0)
  [[ ! -s $TALLY ]] || read -ra before <"$TALLY"
  echo $((before[0] + passed)) $((before[1] + failed)) $((before[2] + skipped)) >"$TALLY"
fi
say "$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 ]]
