#!/usr/bin/env bash
# Law: a run and a tuning leave a page that a browser without a network shows whole: every epoch, every trial, no error, and
# nothing of a name becomes markup. Screenshots are left in the build folder, reports/.
source "$(dirname "$0")/lib.sh"
P=$PROGRAM
PICTURES=$(dirname "$(readlink -f "$PROGRAM")")/reports
mkdir -p "$PICTURES"
NAME='ex<u>ample&' RUN='run</script><u>x' # the slash makes a folder of it
make_data 120
mkdir "data/$NAME"
mv data/example/example.inter "data/$NAME/$NAME.inter"
OPTIONS+=(--dataset "$NAME" --epochs 5)
ingest
"${MPIRUN[@]}" -np 2 "$P" train "${OPTIONS[@]}" --run_dir "$RUN" --replicas 3 >train.log 2>&1 || fail "train: $(<train.log)"
printf 'learning_rate choice [0.1,0.01,0.001,1e38]\nloss_type choice [CE,BPR]\nlearner choice [sgd]\n' >space
"$P" tune "${OPTIONS[@]}" --epochs 1 --params_file space --run_dir tuned >tune.log 2>&1 || fail "tune: $(<tune.log)"
failed=$(grep -c 'failed$' tuned/tune/trials.tsv)
[[ $failed -gt 0 ]] || fail "no trial failed"

for page in "$RUN/report.html" tuned/tune/report.html; do
  cp "$page" before.html
  expect_equal "the path that gru4rec report prints" "$("$P" report "${page%/report.html}")" "$page"
  expect_equal "addresses in $page" "$(grep -oE "https?://[^'\" <]*" "$page" | sort -u)" "http://www.w3.org/2000/svg"
  ! grep -qE '(src|href|srcset|action)=|url\(|@import' "$page" || fail "$page refers to something outside"
  ! grep -q '<u>' "$page" || fail "a name became markup in $page"
  cmp -s <(sed 's/"made":"[^"]*"//' before.html) <(sed 's/"made":"[^"]*"//' "$page") || fail "gru4rec report makes another page of $page than the run"
done
expect_code 2 "$P" report data >refused.log 2>&1
expect_line refused.log 'data is the folder of no run .* Pass the run_dir'

BROWSER=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[[ -n $BROWSER ]] || { echo "skipped: there is no chromium; launch/setup.sh --tests installs it"; exit 77; }
# browse PAGE ARGUMENT…: standard output is the browser's, the errors that the page logged go to console.log
browse() {
  timeout 120 "$BROWSER" --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --user-data-dir="$WORK/browser" \
    --host-resolver-rules='MAP * ~NOTFOUND' --enable-logging=stderr --window-size=1200,2000 "${@:2}" \
    "file://$(readlink -f "$1" | sed 's/%/%25/g; s/</%3C/g; s/>/%3E/g; s/ /%20/g')" 2>browser.log || { tail browser.log >&2; fail "the browser did not show $1"; }
  grep CONSOLE browser.log >console.log || true
}
# shown PAGE: what the browser made of it, into dom.html; no error may have been logged
shown() {
  browse "$1" --dump-dom >dom.html
  [[ ! -s console.log ]] || fail "$1 logged: $(<console.log)"
  ! grep -q '<u>' dom.html || fail "a name became markup in what is shown of $1"
}
count() { grep -o "class=\"$1\"" dom.html | wc -l; }
pictures() { # pictures PAGE NAME
  browse "$1" --screenshot="$PICTURES/$2.png"
  browse "$1" --screenshot="$PICTURES/$2-dark.png" --blink-settings=preferredColorScheme=0
  [[ -s $PICTURES/$2.png && -s $PICTURES/$2-dark.png ]] || fail "no screenshot of $1"
  "${GRU4REC_TEST_PYTHON:-python3}" -c 'import PIL' 2>/dev/null || { echo "the pictures were not looked at: no Pillow"; return; }
  "${GRU4REC_TEST_PYTHON:-python3}" "$SOURCE/tests/end_to_end/picture.py" "$PICTURES/$2.png" "$PICTURES/$2-dark.png" || fail "the picture of $1"
}

shown "$RUN/report.html"
# Loss, valid metric, five metrics at two k, learning rate, throughput of all ranks and of each of two; eight parts of the time.
expect_equal "points of five epochs" "$(count point)" $((5 * (1 + 1 + 10 + 1 + 1 + 2)))
expect_equal "parts of five epochs" "$(count part)" $((5 * 8))
expect_line dom.html '>finished</span>'
expect_line dom.html '<h1>ex&lt;u&gt;ample&amp;'
expect_line dom.html '<code>0\.01</code></td><td class="text">0\.001</td>' # learning_rate and its default
for metric in recall@20 mrr@20; do
  value=$(sed -n "s/^test: .*\b$metric \([0-9.]*\).*/\1/p" train.log)
  expect_line dom.html "<b>$value</b><span>test $metric</span>"
done
pictures "$RUN/report.html" run

shown tuned/tune/report.html
expect_equal "dots of eight trials, over trials and two options" "$(count point)" $((3 * (8 - failed)))
expect_equal "crosses of failed trials" "$(count 'cross point')" $((3 * failed))
best=$(sed -n 's/^best of 8: \(trial-[0-9]*\).*/\1/p' tune.log)
expect_line dom.html "<tr class=\"chosen\"><td class=\"text\">1</td><td class=\"text\">$best</td>"
expect_line dom.html 'learning_rate \(log\)'
expect_line dom.html 'not finite at step' # why trials failed
pictures tuned/tune/report.html tune

# A run that was killed while it wrote its last line.
rm "$RUN/result.json"
truncate -s -20 "$RUN/metrics.jsonl"
"$P" report "$RUN" >/dev/null
shown "$RUN/report.html"
expect_line dom.html '>not finished</span>'
expect_equal "parts of four epochs" "$(count part)" $((4 * 8))

# What is looked for is seen: a page with a mistake in it.
sed 's/^if (data.kind === .run.) runPage();$/runPages();/' "$RUN/report.html" >mistake.html
browse mistake.html --dump-dom >/dev/null
expect_line console.log 'runPages is not defined'
