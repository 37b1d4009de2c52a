#!/usr/bin/env bash
# usage: session_lists_test.sh GRU4REC
# Law: sessions come out of launch/from-session-lists.py as they went in, from whole lists and from all their prefixes alike, and
# ingest reads them; what is no session list is refused by name, and code in a pickle is not run.
set -e
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

convert=$SOURCE/launch/from-session-lists.py
cd "$WORK"

python3 - <<'PYTHON'
import os, pickle, random
random.seed(7)
train = [[random.randint(1, 9) for _ in range(random.randint(2, 12))] for _ in range(50)]
test = [[random.randint(1, 9) for _ in range(random.randint(2, 12))] for _ in range(20)]
prefixes = [session[:end] for session in test for end in range(len(session) - 1, 0, -1)]
targets = [session[end] for session in test for end in range(len(session) - 1, 0, -1)]
def save(name, value):
    with open(name, "wb") as file:
        pickle.dump(value, file)
save("train.txt", train)
save("whole.txt", test)
save("prefixes.txt", (prefixes, targets))
save("two.txt", [[1, 2], [3, 4]])
save("hole.txt", (prefixes[:3] + prefixes[4:], targets[:3] + targets[4:]))
save("number.txt", 7)
save("flat.txt", [1, 2, 3])
save("empty_prefix.txt", ([[1, 2], [1], []], [3, 2, 1]))
save("tab.txt", [[1, "2\t3"]])
save("fraction.txt", ([[1]], [2.5]))
with open("train.txt", "rb") as whole, open("cut.txt", "wb") as cut:
    cut.write(whole.read()[:40])
class Code:
    def __reduce__(self):
        return os.system, ("touch was_run",)
save("code.txt", Code())
rows = lambda sessions: [(str(s), str(item), str(s * 100000 + p)) for s, items in enumerate(sessions) for p, item in enumerate(items)]
for name, sessions in (("train", train), ("test", test)):
    with open(f"expected.{name}", "w") as file:
        file.write("SessionId\tItemId\tTime\n" + "".join("\t".join(row) + "\n" for row in rows(sessions)))
PYTHON

"$convert" train.txt prefixes.txt prefixes >/dev/null
"$convert" train.txt whole.txt whole >/dev/null
for form in prefixes whole; do
  for part in train test; do
    cmp "expected.$part" "$form/$part.tsv" || fail "$form: $part.tsv is not what went in"
  done
done
"$convert" two.txt two.txt two >/dev/null
[[ $(wc -l <two/train.tsv) == 5 ]] || fail "two sessions of one length were taken for prefixes and targets"

"$GRU4REC" ingest --train_file train.tsv --test_file test.tsv --data_path prefixes --SESSION_ID_FIELD SessionId \
  --ITEM_ID_FIELD ItemId --TIME_FIELD Time --eval_args "{split: {files: given}, order: TO, mode: full}" --store store >"$LOG" || fail "ingest refused what was written"
targets=$(($(wc -l <expected.test) - 1 - 20))
grep -Eq "targets: test +$targets\$" "$LOG" || fail "ingest did not find $targets targets of testing"

refused() { # refused FILE TEXT
  if timeout 10 "$convert" train.txt "$1" refused >"$LOG" 2>&1; then fail "$1 was taken"; fi
  expect_text "$2"
  [[ ! -e refused ]] || fail "$1: a folder was made though it was refused"
}
refused hole.txt "row 3 is not the prefix"
refused number.txt "holds a int"
refused flat.txt "entry 0 is no list of items"
refused missing.txt "cannot be read"
refused code.txt "wants to load"
refused empty_prefix.txt "row 2 has an empty prefix"
refused tab.txt "entry 0 is no list of items"
refused fraction.txt "entry 0 is no list of items"
refused cut.txt "cannot be read"
[[ ! -e was_run ]] || fail "code in a pickle was run"
echo ok
