#!/usr/bin/env python3
"""Trains RecBole's GRU4Rec on ml-100k and writes the rank of every user's test item: recbole_ranks_ml100k.tsv.

    python recbole_ranks.py [--seeds 2020 2021 2022] [--epochs N] [--gru fused|torch] [--output FILE]

The steps are those of RecBole's run_recbole, with its defaults and CE. Only the recurrence itself is replaced, for speed:
`--gru fused` computes torch's GRU with one pass over the gates of a step (fused_gru.cpp) and without the padding;
`--gru torch` leaves RecBole as it is, for comparison.
"""

import argparse
import ctypes
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, nargs="+", default=[2020, 2021, 2022])
parser.add_argument("--epochs", type=int, default=300)
parser.add_argument("--gru", choices=["fused", "torch"], default="fused")
parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent / "recbole_ranks_ml100k.tsv")
OPTIONS = parser.parse_args()
OPTIONS.output = OPTIONS.output.resolve()
sys.argv = sys.argv[:1]  # RecBole reads options from sys.argv

import numpy as np
import torch

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.transform import construct_transform
from recbole.model.sequential_recommender.gru4rec import GRU4Rec
from recbole.trainer import Trainer
from recbole.utils import get_flops, init_seed


def compile_kernel(folder):
    source = Path(__file__).resolve().parent / "fused_gru.cpp"
    library = Path(folder) / "fused_gru.so"
    compiler = os.environ.get("CXX", "g++")
    subprocess.run(
        [compiler, "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", source, "-o", library], check=True
    )
    return ctypes.CDLL(str(library))


KERNEL = None


def pointers(*tensors):
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in tensors)
    return [ctypes.c_void_p(t.data_ptr()) for t in tensors]


class FusedGRU(torch.autograd.Function):
    """One GRU layer without biases from a zero state; returns the state after the last item of each sequence, [B, H].

    x is packed: [sum of counts, I], first all first items, then all second ones, … ; `counts[t]` sequences are longer
    than t, and the longest come first, so that step t is about the first `counts[t]` rows.
    """

    @staticmethod
    def forward(ctx, x, w_ih, w_hh, counts):
        hidden = w_hh.shape[1]
        gates = torch.mm(x, w_ih.t()).split(counts)
        before = x.new_zeros(x.shape[0], hidden)  # the state that each step starts from
        kept = x.new_empty(x.shape[0], 4 * hidden)
        last = x.new_empty(counts[0], hidden)
        g_all, out_all = x.new_empty(counts[0], 3 * hidden), x.new_empty(counts[0], hidden)
        steps_before = before.split(counts)
        for t, (rows, h, k) in enumerate(zip(counts, steps_before, kept.split(counts))):
            g, out = g_all[:rows], out_all[:rows]
            torch.mm(h, w_hh.t(), out=g)
            KERNEL.gru_step(ctypes.c_int64(rows), ctypes.c_int64(hidden), *pointers(gates[t], g, h, out, k))
            going_on = counts[t + 1] if t + 1 < len(counts) else 0
            last[going_on:rows] = out[going_on:]
            if going_on:
                steps_before[t + 1].copy_(out[:going_on])
        ctx.counts = counts
        ctx.save_for_backward(x, w_ih, w_hh, before, kept)
        return last

    @staticmethod
    def backward(ctx, d_last):
        x, w_ih, w_hh, before, kept = ctx.saved_tensors
        counts, hidden = ctx.counts, w_hh.shape[1]
        d_gates = x.new_empty(x.shape[0], 3 * hidden)
        d_g = x.new_empty(x.shape[0], 3 * hidden)
        dh_all = d_last.clone()
        steps = list(zip(counts, kept.split(counts), before.split(counts), d_gates.split(counts), d_g.split(counts)))
        for rows, k, h, dx, dg in reversed(steps):
            dh = dh_all[:rows]
            KERNEL.gru_step_back(ctypes.c_int64(rows), ctypes.c_int64(hidden), *pointers(k, h, dh, dx, dg))
            dh.addmm_(dg, w_hh)
        return torch.mm(d_gates, w_ih), torch.mm(d_gates.t(), x), torch.mm(d_g.t(), before), None


def fused_forward(model, item_seq, item_seq_len):
    """In place of GRU4Rec.forward: the same operations on the same embedding and dropout mask, without the padding."""
    assert model.num_layers == 1
    embedded = model.emb_dropout(model.item_embedding(item_seq))
    lengths, order = torch.sort(item_seq_len, descending=True, stable=True)
    counts = [n for n in (lengths.unsqueeze(1) > torch.arange(embedded.shape[1])).sum(0).tolist() if n]
    positions = torch.cat([order[:n] * embedded.shape[1] + t for t, n in enumerate(counts)])
    packed = embedded.reshape(-1, embedded.shape[2]).index_select(0, positions)
    last = FusedGRU.apply(packed, model.gru_layers.weight_ih_l0, model.gru_layers.weight_hh_l0, counts)
    return model.dense(last.index_select(0, torch.argsort(order)))


def check_against_recbole(config, dataset):
    """Outputs and gradients of the replacement against GRU4Rec.forward."""
    init_seed(1, True)
    model = GRU4Rec(config, dataset)
    items = torch.randint(1, model.n_items, (200, 50))
    lengths = torch.randint(1, 51, (200,))
    weight = torch.randn(200, config["embedding_size"])
    results = []
    for forward in (model.forward, lambda *batch: fused_forward(model, *batch)):
        init_seed(2, True)  # the dropout mask
        model.zero_grad()
        out = forward(items * (torch.arange(50) < lengths.unsqueeze(1)), lengths)
        (out * weight).sum().backward()
        results.append([out.detach()] + [p.grad.clone() for p in model.parameters()])
    worst = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(*results))
    print(f"fused GRU against RecBole's: largest relative difference {worst:.1e}", flush=True)
    assert worst < 1e-5


class LoggingTrainer(Trainer):
    """RecBole's trainer; says each epoch in one line with more digits than RecBole's four."""

    def _valid_epoch(self, valid_data, show_progress=False):
        score, result = super()._valid_epoch(valid_data, show_progress)
        epoch = max(self.train_loss_dict)
        print(f"epoch {epoch + 1} loss {self.train_loss_dict[epoch]:.6f} valid {dict(result)}", flush=True)
        return score, result


@torch.no_grad()
def test_ranks(trainer, test_data):
    """Per user token, the rank of the test item as RecBole's evaluator would see it: padding out, history not masked."""
    users = test_data._dataset.field2id_token["user_id"]
    ranks = {}
    for batch in test_data:
        interaction, scores, rows, positives = trainer._full_sort_batch_eval(batch)
        target = scores[rows, positives].unsqueeze(1)
        above, ties = (scores > target).sum(1), (scores == target).sum(1) - 1
        assert not ties.any()
        for user, rank in zip(interaction["user_id"].tolist(), (above + 1).tolist()):
            ranks[users[user]] = rank
    return ranks


def train(seed, scratch):
    """As run_recbole, step by step."""
    config = Config(
        model="GRU4Rec",
        dataset="ml-100k",
        config_dict={
            "train_neg_sample_args": None,
            "seed": seed,
            "epochs": OPTIONS.epochs,
            "topk": [10, 20],
            "use_gpu": False,
            "gpu_id": "",
            "show_progress": False,
            "checkpoint_dir": str(scratch),
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    check_against_recbole(config, dataset)
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    model = GRU4Rec(config, train_data._dataset).to(config["device"])
    get_flops(model, dataset, config["device"], logging.getLogger(), construct_transform(config))
    if OPTIONS.gru == "fused":
        model.forward = lambda *batch: fused_forward(model, *batch)
    trainer = LoggingTrainer(config, model)
    # RecBole saves whole configurations, which torch.load refuses unless told; and a closure cannot be saved
    trainer._save_checkpoint = lambda epoch, **_: torch.save(
        {"epoch": epoch, "state_dict": model.state_dict()}, trainer.saved_model_file
    )
    trainer.fit(train_data, valid_data, saved=True, show_progress=False)
    best = torch.load(trainer.saved_model_file)["epoch"]
    result = trainer.evaluate(test_data, load_best_model=True)
    ranks = test_ranks(trainer, test_data)

    values = np.array(list(ranks.values()))
    for k in (10, 20):  # check: the ranks give RecBole's own figures
        assert round((values <= k).mean(), 4) == result[f"recall@{k}"]
        assert round(np.where(values <= k, 1 / values, 0).mean(), 4) == result[f"mrr@{k}"]
    print(f"seed {seed}: best epoch {best + 1} of {len(trainer.train_loss_dict)}, test {dict(result)}", flush=True)
    return ranks


def write(path, columns):
    """The file holds what is done so far: user token, then one rank a seed."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w") as out:
        out.write("user\t" + "\t".join(f"seed_{seed}" for seed in columns) + "\n")
        users = sorted(next(iter(columns.values())), key=int)
        assert all(set(ranks) == set(users) for ranks in columns.values()) and len(users) == 943
        for user in users:
            out.write(user + "\t" + "\t".join(str(ranks[user]) for ranks in columns.values()) + "\n")
    temporary.replace(path)


def main():
    global KERNEL
    torch.set_num_threads(1)
    if OPTIONS.gru == "fused":
        torch.autograd.set_detect_anomaly(False)  # RecBole turns it on for every model by importing sine.py
    columns = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # RecBole's logs go here
        KERNEL = compile_kernel(scratch)
        for seed in OPTIONS.seeds:
            columns[seed] = train(seed, scratch)
            write(OPTIONS.output, columns)


if __name__ == "__main__":
    main()
