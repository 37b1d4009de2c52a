#!/usr/bin/env python3
"""Compares two trainers user by user: the ranks each gives to the same test items.

    python bootstrap.py OURS.tsv [OURS2.tsv …] [--reference recbole_ranks_ml100k.tsv] [--k 20] [--samples 10000]

A file has one line a user: the user token, then one rank a seed, tab separated; a first line without numbers is a header.
Several files are several seeds. Of each trainer and user the hit (rank ≤ k) and the reciprocal rank (1/rank if rank ≤ k)
are averaged over seeds; the difference of the two averages is taken user by user, and users are drawn with replacement,
always by the same generator, for a 95 % interval of the mean difference. Needs numpy only.
"""

import argparse
from pathlib import Path

import numpy as np


def read_ranks(paths):
    """{user token: ranks of all seeds}, and the number of seeds. Every file must have the same users, once each."""
    ranks = {}
    seeds = 0
    for path in paths:
        seen = {}
        for number, line in enumerate(Path(path).read_text().splitlines(), 1):
            user, *values = line.split("\t")
            if number == 1 and not all(value.isdigit() for value in values):
                continue
            if not values or not all(value.isdigit() and int(value) >= 1 for value in values):
                raise SystemExit(f"{path}:{number}: got {line!r}, wanted a user and one or more ranks from 1 on")
            if user in seen:
                raise SystemExit(f"{path}:{number}: user {user} a second time")
            seen[user] = [int(value) for value in values]
        widths = {len(values) for values in seen.values()}
        if len(widths) != 1:
            raise SystemExit(f"{path}: lines with {sorted(widths)} ranks, wanted one rank a seed in every line")
        if ranks and set(ranks) != set(seen):
            raise SystemExit(f"{path}: not the users of {paths[0]}")
        for user, values in seen.items():
            ranks.setdefault(user, []).extend(values)
        seeds += widths.pop()
    return ranks, seeds


def per_user(ranks, users, k):
    """{metric: value of each user, mean over seeds}, and {metric: value of each seed, mean over users}."""
    table = np.array([ranks[user] for user in users], dtype=np.float64)  # [users, seeds]
    hit = table <= k
    values = {f"recall@{k}": hit.astype(np.float64), f"mrr@{k}": np.where(hit, 1.0 / table, 0.0)}
    return {m: v.mean(axis=1) for m, v in values.items()}, {m: v.mean(axis=0) for m, v in values.items()}


def interval(differences, samples, seed):
    """The 95 % percentile interval of the mean under resampling of users."""
    generator = np.random.default_rng(seed)
    n = differences.size
    means = np.array([differences[generator.integers(0, n, n)].mean() for _ in range(samples)])
    return np.percentile(means, [2.5, 97.5])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", nargs="+")
    parser.add_argument("--reference", default=str(Path(__file__).resolve().parent / "recbole_ranks_ml100k.tsv"))
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--samples", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    ours, our_seeds = read_ranks(options.ours)
    theirs, their_seeds = read_ranks([options.reference])
    if set(ours) != set(theirs):
        only_ours, only_theirs = set(ours) - set(theirs), set(theirs) - set(ours)
        raise SystemExit(
            f"the files name different users: {len(only_ours)} only in ours, {len(only_theirs)} only in {options.reference}"
        )
    users = sorted(ours)
    our_values, our_by_seed = per_user(ours, users, options.k)
    their_values, their_by_seed = per_user(theirs, users, options.k)

    print(f"{len(users)} users; ours: {our_seeds} seed(s), reference: {their_seeds} seed(s)")
    for metric in our_values:
        difference = our_values[metric] - their_values[metric]
        low, high = interval(difference, options.samples, options.seed)
        print(f"{metric:10s} ours {our_values[metric].mean():.4f}  reference {their_values[metric].mean():.4f}  "
              f"difference {difference.mean():+.4f}  95 % interval [{low:+.4f}, {high:+.4f}]")
        for name, by_seed in (("ours", our_by_seed), ("reference", their_by_seed)):
            print(f"{'':10s} {name} by seed: " + " ".join(f"{value:.4f}" for value in by_seed[metric]))


if __name__ == "__main__":
    main()
