#!/usr/bin/env bash
# Laws of `gru4rec doctor`: it says of every rank what it is and sees, times every pair and the ordered sum, and names what differs
# between ranks, with exit code 2.
source "$(dirname "$0")/lib.sh"
make_data 40
ingest
mkdir other
(cd other && make_data 50 && ingest)
mine=$(digest store/example) others=$(digest other/store/example)
[[ $mine != "$others" ]] || fail "the two stores are equal"

expect_code 0 "$PROGRAM" doctor >single.log 2>&1
expect_line single.log "^1 rank\(s\) over single"
expect_line single.log "^0 +$(hostname) +[0-9]+ .* -$"
expect_line single.log "^all is well"

doctor() { "${MPIRUN[@]}" -np 3 "$@" doctor "${OPTIONS[@]}"; }
expect_code 0 doctor "$PROGRAM" >three.log 2>&1
for rank in 0 1 2; do expect_line three.log "^$rank +$(hostname) .* $mine$"; done
for pair in 0-1 0-2 1-2; do expect_line three.log "^$pair +[0-9.]+ us +[0-9.]+ MB/s +[0-9.]+ MB/s$"; done
expect_line three.log "^65536 KiB +[0-9.]+ +[0-9.]+ MB/s$"
expect_line three.log "^all is well"
! grep -q "read each other's memory" three.log || fail "ranks of a host cannot read each other's memory"

# Rank 2 may make no file of 64 MiB, in memory neither.
cat >limited <<'END'
#!/bin/sh
[ "$OMPI_COMM_WORLD_RANK" != 2 ] || ulimit -f 65536
exec "$PROGRAM" "$@"
END
chmod +x limited
export PROGRAM
expect_code 0 doctor ./limited >limited.log 2>&1
for rank in 0 1; do expect_line limited.log "^note: rank $rank .* and 1 other rank\(s\) of its host cannot read each other's memory"; done
expect_line limited.log "^note: rank 2 .* and 2 other rank\(s\) of its host cannot"
expect_line limited.log "^65536 KiB +[0-9.]+ +[0-9.]+ MB/s$"

# Rank 1 runs another program, rank 2 sees another store.
mkdir changed
cp "$PROGRAM" "$PROGRAM-torch" changed
printf x >>changed/gru4rec-torch
cat >wrapper <<'END'
#!/bin/sh
[ "$OMPI_COMM_WORLD_RANK" != 1 ] || PROGRAM=./changed/gru4rec
[ "$OMPI_COMM_WORLD_RANK" != 2 ] || cd other
exec "$PROGRAM" "$@"
END
chmod +x wrapper
expect_code 2 doctor ./wrapper >differ.log 2>&1
expect_line differ.log "^WRONG: the program differs between ranks: rank 0 .* has .*; rank 1 \(.*\)\. Install"
expect_line differ.log "^WRONG: the store's digest differs between ranks: rank 0 .* has $mine; rank 2 .* has $others\. Give"
expect_equal "findings" "$(grep -c ^WRONG: differ.log)" 2
! grep -q "all is well" differ.log || fail "all is well in spite of that"

# Nobody has a store.
expect_code 2 "$PROGRAM" doctor "${OPTIONS[@]}" --store nowhere >nowhere.log 2>&1
expect_line nowhere.log "^WRONG: no rank has the store: .*nowhere"
