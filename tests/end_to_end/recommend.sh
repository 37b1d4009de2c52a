#!/usr/bin/env bash
# Law: a checkpoint alone recommends and is exported; every line has its answer, in order and as soon as it can be had; what is wrong
# is said, and harms nothing.
source "$(dirname "$0")/lib.sh"
make_data 60
ingest
P=$PROGRAM
train 1 run
cp "$(newest_in run/checkpoints)" model.h5
mkdir elsewhere
mv store data run elsewhere
recommend() { "$P" recommend --checkpoint model.h5 "$@" 2>errors.log; }
export_() { "$P" export --checkpoint model.h5 "$@"; }

# From the command line as from standard input.
recommend --session 'i3 i16' --session 'i5' --session 'i7 what i7' --session ' ' --k 4 >arguments.jsonl
printf '{"session": ["i3", "i16"]}\n{"session": ["i5"]}\n{"session": ["i7", "what", "i7"]}\n\n{"session": []}' | recommend --k 4 >lines.jsonl
cmp arguments.jsonl lines.jsonl || fail "--session and standard input have other answers"
expect_equal "answers" "$(wc -l <lines.jsonl)" 4
expect_line <(sed -n 3p lines.jsonl) '"items":\["[^]]*","[^]]*","[^]]*","[^]]*"\],"scores":\[[^]]*\],"unknown":\["what"\]\}$'
expect_line <(sed -n 4p lines.jsonl) '"items":\[\],.*"note":"the session is empty'

# The size of a batch and the threads change no list; what is to be left out is.
for i in {1..300}; do echo "{\"session\": [\"i$((i % 97))\", \"i$((i * i % 97))\"], \"id\": $i}"; done >many.jsonl
items() { sed 's/"scores":[^]]*]//'; }
recommend --eval_batch_size 7 <many.jsonl | items >by_seven
recommend --num_threads 2 <many.jsonl | items | cmp - by_seven || fail "eval_batch_size or num_threads changes lists"
expect_equal "ids in order" "$(sed 's/^{"id":\([0-9]*\),.*/\1/' by_seven | tr '\n' ' ')" "$(seq -s ' ' 300) "
best=$(recommend --session i3 --k 1 | sed 's/.*"items":\["\([^"]*\)"\].*/\1/')
[[ $(recommend --session i3 --exclude "what $best" --k 97) != *"\"$best\""* ]] || fail "--exclude $best recommends it"
[[ $(recommend --session i3 --k 97) == *'"i3"'* ]] || fail "an item of the session is left out unasked"
[[ $(recommend --session i3 --exclude_seen true --k 97) != *'"i3"'* ]] || fail "--exclude_seen true recommends what was seen"

# A line that comes alone is answered before there is another, or an end.
coproc SERVER { exec "$P" recommend --checkpoint model.h5 --k 2 2>server.log; }
for id in 1 2 3; do
  printf '{"session": ["i%s"], "id": %s}\n' "$id" "$id" >&"${SERVER[1]}"
  IFS= read -r -t 120 answer <&"${SERVER[0]}" || fail "no answer to line $id while standard input is open: $(<server.log)"
  [[ $answer == "{\"id\":$id,"* ]] || fail "answer to line $id: $answer"
done
server=$SERVER_PID
exec {SERVER[1]}>&-
expect_code 0 wait "$server"

# Lines that are none have an answer, and the others as well.
code=0
printf '{"session": ["i3"]}\n{"session": ["i3"\n{"sessions": ["i3"], "id": 8}\n{"session": ["i5"]}\n' | recommend --k 1 >some.jsonl || code=$?
expect_equal "exit code of two wrong lines" "$code" 2
expect_line <(sed -n 2p some.jsonl) '"error":"line 2: not JSON'
expect_line <(sed -n 3p some.jsonl) "\"id\":8,\"error\":\"line 3: unknown key 'sessions'; did you mean 'session'"
expect_line <(sed -n 4p some.jsonl) '"items":\["'
expect_line errors.log '2 of 4 lines could not be read.*line 2'
code=0
recommend --session i3 >/dev/full || code=$?
expect_equal "exit code of a full disk" "$code" 3

# refused PATTERN COMMAND…: exit code 2 and a line that matches
refused() {
  local pattern=$1
  shift
  expect_code 2 "$@" >out.log 2>&1
  expect_line out.log "$pattern"
}
refused "recommend has no option '--learning_rate'" "$P" recommend --checkpoint model.h5 --learning_rate 1
refused "--k" "$P" recommend --checkpoint model.h5 --k 0
refused "--checkpoint" "$P" recommend --session i3
refused "there is no file nothing.h5|cannot|does not exist" "$P" recommend --checkpoint nothing.h5 --session i3
refused "recommend is one process" "${MPIRUN[@]}" -np 2 "$P" recommend --checkpoint model.h5 --session i3
refused "wanted a file named \*.pt for format torchscript" export_ --format torchscript --output model.pth
refused "got order.json with format numpy, wanted format recbole" export_ --format numpy --output items.npy --item_order order.json
refused "cannot read order.json" export_ --format recbole --output model.pth --item_order order.json
refused "--format" export_ --format onnx --output model.onnx
mkdir folder.npy
refused "folder.npy is a folder" export_ --format numpy --output folder.npy
expect_code 3 export_ --format numpy --output nowhere/items.npy >out.log 2>&1
[[ ! -e model.pth && ! -e model.pt && ! -e items.npy ]] || fail "a refused export left a file"

# Vectors as others read them.
export_ --format numpy --output items.npy >/dev/null
export_ --format hdf5 --output items.h5 >/dev/null
export_ --format torchscript --output model.pt >out.log
expect_line out.log '^torchscript of model.h5 as model.pt$'
PYTHON=${GRU4REC_TEST_PYTHON:-python3}
if "$PYTHON" -c 'import h5py, numpy' 2>/dev/null; then
  "$PYTHON" - <<'PYTHON' || fail "the exported vectors are not those of the checkpoint"
import json
import h5py, numpy
table = h5py.File("model.h5")["state/parameters/item_embedding.weight"][1:]
assert (numpy.load("items.npy") == table).all()
with h5py.File("items.h5") as file:
    text, offsets = file["item_names"][:].tobytes(), file["item_name_offsets"][:]
    names = [text[a:b].decode() for a, b in zip(offsets, offsets[1:])]
    assert (file["item_embeddings"][:] == table).all()
assert names == json.load(open("items.ids.json")) and len(names) == len(table) and "i3" in names
PYTHON
else
  echo "not compared: $PYTHON has no h5py; launch/setup.sh --tests brings it"
fi

# The way back from RecBole's weights: a run of no epoch evaluates what it began with.
mv elsewhere/* .
"$P" export --checkpoint run --format recbole --output weights.pth >/dev/null
train 2 back --init_from weights.pth --epochs 0
expect_equal "RecBole's weights, evaluated by two ranks" "$(tail -n 1 back.log)" "$(tail -n 1 run.log)"
refused "cannot read wrong.pth as a plain dictionary of tensors" bash -c "echo wrong >wrong.pth; exec $P train ${OPTIONS[*]} --run_dir wrong --init_from wrong.pth"
