#!/usr/bin/env bash
# Law: with reduction native, MPI adds over ranks: the loss is that of ordered sums but for rounding, and not to the last bit.
source "$(dirname "$0")/lib.sh"
make_data
ingest
losses() { sed -E 's/.*"train_loss":([0-9.e+-]+).*/\1/' "$1/metrics.jsonl"; }
for reduction in ordered native; do
  train 3 "$reduction" --replicas 7 --precision fp32 --reduction "$reduction" || { cat "$reduction.log" >&2; fail "train with reduction $reduction"; }
  [[ $(losses "$reduction" | wc -l) -gt 0 ]] || fail "no loss in $reduction/metrics.jsonl"
done
[[ $(losses ordered) != $(losses native) ]] || fail "native sums have the bits of ordered ones: $(losses native | xargs)"
paste <(losses ordered) <(losses native) | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-4 * $1) { print "losses " $1 " and " $2; exit 1 } }' >&2 ||
  fail "native sums are others than ordered ones"
expect_code 2 train 3 native --replicas 7 --precision fp32 --resume --reduction ordered
expect_line native.log 'trained with other options \(reduction: native → ordered'
