#!/usr/bin/env bash
# Fetches the MovieLens 100K data set as RecBole packs it, into .deps/data/ml-100k/.
#
# The data set was made by GroupLens at the University of Minnesota. Its terms of use allow research, and forbid to
# redistribute it without permission and to use it commercially (https://files.grouplens.org/datasets/movielens/ml-100k-README.txt).
# So it is fetched here and never part of this repository: leave it in .deps, which git ignores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wheel_version=1.2.1
wheel_sha256=9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407
target=$ROOT/.deps/data/ml-100k

if [[ -f $target/ml-100k.inter ]]; then
  say "fetch: .deps/data/ml-100k: already there"
  exit 0
fi
python=''
for candidate in "$ROOT"/.deps/venv{,-cuda}/bin/python python3; do
  if "$candidate" -m pip --version >/dev/null 2>&1; then
    python=$candidate
    break
  fi
done
[[ -n $python ]] || die 2 "no Python with pip found to download the data set with. Run launch/setup.sh --no-build first."

mkdir -p "$ROOT/.deps/data"
temporary=$(mktemp -d "$ROOT/.deps/data/.fetch.XXXXXX")
trap 'rm -rf "$temporary"' EXIT
say "fetch: ml-100k out of the wheel recbole==$wheel_version (downloaded, not installed); see its terms of use at the top of this script"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --dest "$temporary" "recbole==$wheel_version" || die 3 "pip could not download recbole==$wheel_version, see above"
wheel=$(echo "$temporary"/recbole-*.whl)
got=$(sha256sum "$wheel" | cut -d ' ' -f 1)
[[ $got == "$wheel_sha256" ]] ||
  die 3 "the wheel recbole==$wheel_version has sha256 $got, wanted $wheel_sha256. It was changed or damaged on the way; try again, and do not use it if it stays so."

"$python" - "$wheel" "$temporary/ml-100k" <<'PYTHON'
import pathlib, sys, zipfile
wheel, target = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2])
target.mkdir()
for name in wheel.namelist():
    if name.startswith("recbole/dataset_example/ml-100k/") and not name.endswith(("/", ".kg", ".link")):
        (target / pathlib.PurePosixPath(name).name).write_bytes(wheel.read(name))
PYTHON
chmod 755 "$temporary/ml-100k"
rm -rf "$target"
mv "$temporary/ml-100k" "$target"
say "fetch: done: ${target#"$ROOT"/}: $(($(wc -l <"$target/ml-100k.inter") - 1)) events"
