#!/usr/bin/env bash
# Law: a model that goes to RecBole or comes from it is the same model: RecBole's own evaluation on ml-100k says what ours says.
# A model as TorchScript, in Python, recommends what `recommend` does. Needs RecBole (launch/setup.sh --recbole) and ml-100k.
source "$(dirname "$0")/lib.sh"
PYTHON=${GRU4REC_RECBOLE_PYTHON:-$SOURCE/.deps/venv-recbole/bin/python}
DATA=$SOURCE/.deps/data
skip() { echo "skipped: $*"; exit 77; }
"$PYTHON" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("recbole") is None)' 2>/dev/null ||
  skip "$PYTHON has no recbole; launch/setup.sh --recbole installs it"
[[ -f $DATA/ml-100k/ml-100k.inter ]] || skip "there is no $DATA/ml-100k; launch/fetch-ml-100k.sh fetches it"
P=$PROGRAM
recbole() { "$PYTHON" "$SOURCE/tests/end_to_end/recbole_state.py" "$1" "$DATA" >"recbole-$1.log" 2>&1 || { tail "recbole-$1.log" >&2; fail "RecBole: $1"; }; }
OPTIONS=(--config "$SOURCE/configs/ml-100k.yaml" --data_path "$DATA" --show_progress false)
# first_two FILE: recall@20 and mrr@20 of our last line
first_two() { sed -n 's/^test: \(recall@20 [0-9.]*  mrr@20 [0-9.]*\).*/\1/p' "$1"; }

ingest
"$P" train "${OPTIONS[@]}" --run_dir run --epochs 2 >train.log 2>&1 || { cat train.log >&2; fail train; }
recbole prepare

# There.
"$P" export --checkpoint run --format recbole --item_order recbole-items.json --output exported.pth
"$P" export --checkpoint run --format torchscript --output model.pt
"$P" export --checkpoint run --format numpy --output items.npy
"$PYTHON" - <<'PYTHON'
import json, random
random.seed(3)
items = json.load(open("items.ids.json"))
with open("sessions.jsonl", "w") as out:
    for _ in range(1000):
        print(json.dumps({"session": [random.choice(items) for _ in range(random.randint(1, 70))]}), file=out)
PYTHON
recbole check
expect_equal "RecBole's evaluation of our weights" "$(<exported.txt)" "$(first_two train.log)"
"$P" recommend --checkpoint run <sessions.jsonl >ours.jsonl
"$PYTHON" - <<'PYTHON'
import json
read = lambda name: [json.loads(line) for line in open(name)]
ours, theirs = read("ours.jsonl"), read("script.jsonl")
assert len(ours) == len(theirs) == 1000
apart = max(abs(x - y) for a, b in zip(ours, theirs) for x, y in zip(a["scores"], b["scores"]))
assert apart <= 1e-5, apart
swapped = 0
for a, b in zip(ours, theirs):  # rounding may swap items whose scores are as good as equal
    swapped += a["items"] != b["items"]
    score = dict(zip(a["items"], a["scores"]))
    for item, place in zip(b["items"], a["scores"]):
        assert abs(score.get(item, a["scores"][-1]) - place) <= 1e-5, (a, b)
print(f"1000 sessions: scores apart by {apart:.1e}, {swapped} lists in which rounding swapped items")
assert swapped < 50, swapped
PYTHON

# And back. A run of no epoch is the evaluation of what it began with.
train_from() { "$P" train "${OPTIONS[@]}" --ema_decay 0 --run_dir "$1" --epochs 0 --init_from "$2" >"$1.log" 2>&1; }
train_from back plain.pth || { cat back.log >&2; fail "train --init_from plain.pth"; }
expect_equal "our evaluation of RecBole's weights" "$(first_two back.log)" "$(<saved.txt)"
train_from again exported.pth || { cat again.log >&2; fail "train --init_from exported.pth"; }
expect_equal "our evaluation of our weights that came back" "$(first_two again.log)" "$(first_two train.log)"
for name in saved state; do # both have Python objects around the weights
  if train_from "$name" "$name.pth"; then fail "$name.pth was read"; fi
  line=$(sed -n 's/^ *python -c "\(.*\)"$/\1/p' "$name.log")
  [[ -n $line ]] || { cat "$name.log" >&2; fail "no line of Python in the refusal of $name.pth"; }
  "$PYTHON" -c "$line" >python.log 2>&1 || { cat python.log >&2; fail "the line of Python in the refusal of $name.pth does not run: $line"; }
  cp plain.ids.json weights.ids.json
  train_from "of-$name" weights.pth || { cat "of-$name.log" >&2; fail "train --init_from weights.pth"; }
  expect_equal "our evaluation of the weights in $name.pth" "$(first_two "of-$name.log")" "$(<saved.txt)"
done
echo "RecBole and we: $(<exported.txt) of our weights, $(<saved.txt) of RecBole's"
