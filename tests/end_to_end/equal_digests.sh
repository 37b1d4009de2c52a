#!/usr/bin/env bash
# Law: with --replicas 4, one process, 1, 2, 3 and 4 ranks and debug mode end with the same checkpoint digest.
source "$(dirname "$0")/lib.sh"
make_data
ingest
"$PROGRAM" train "${OPTIONS[@]}" --run_dir single --replicas 4 >single.log 2>&1
wanted=$(digest single)
for ranks in 1 2 3 4; do
  train "$ranks" "ranks$ranks" --replicas 4
  expect_equal "digest on $ranks ranks" "$(digest "ranks$ranks")" "$wanted"
  expect_equal "last line on $ranks ranks" "$(tail -n 1 "ranks$ranks.log")" "$(tail -n 1 single.log)"
done
train 3 overlap --replicas 4 --overlap true
expect_equal "digest with overlap" "$(digest overlap)" "$wanted"
expect_line overlap.log 'overlap: a second thread of each rank'
"$PROGRAM" train "${OPTIONS[@]}" --run_dir debug --replicas 4 --debug >debug.log 2>&1
expect_equal "digest of debug mode" "$(digest debug)" "$wanted"
"$PROGRAM" train "${OPTIONS[@]}" --run_dir two --replicas 2 >two.log 2>&1
[[ $(digest two) != "$wanted" ]] || fail "two replicas give the digest of four: the test sees no difference"
expect_line single.log '^test: recall@20 0\.[0-9]{4}  mrr@20 0\.[0-9]{4}'
evaluated=$("$PROGRAM" evaluate --checkpoint single 2>/dev/null | tail -n 1)
expect_equal "evaluate of the finished run" "$evaluated" "$(tail -n 1 single.log)"
expect_equal "evaluate on 3 ranks" "$("${MPIRUN[@]}" -np 3 "$PROGRAM" evaluate --checkpoint single 2>/dev/null | tail -n 1)" "$evaluated"
