#!/usr/bin/env python3
"""Writes the golden fixtures of this folder from RecBole 1.2.1.

    python make_fixtures.py [PART ...]        PART: splits scores adam metrics early_stopping init keys

Everything a fixture claims about RecBole comes out of RecBole's own code: its dataset, its data loaders, its model, its
trainer and its evaluator are called; nothing is re-implemented except where a comment says "check". README.md has the
layout of every file. Run with OMP_NUM_THREADS=1; a second run writes the same bytes.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

PARTS = sys.argv[1:]
sys.argv = sys.argv[:1]  # RecBole reads options from sys.argv

import h5py
import numpy as np
import torch
import xxhash
import yaml

from torch.nn.utils.clip_grad import clip_grad_norm_

import recbole
import recbole.trainer.trainer
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.evaluator.metrics import NDCG
from recbole.model.sequential_recommender.gru4rec import GRU4Rec
from recbole.trainer import Trainer
from recbole.utils import early_stopping, init_seed

HERE = Path(__file__).resolve().parent
PACKAGE = Path(recbole.__file__).resolve().parent
PARAMETERS = [  # RecBole's names, and the order in which it creates them
    "item_embedding.weight",
    "gru_layers.weight_ih_l0",
    "gru_layers.weight_hh_l0",
    "gru_layers.weight_ih_l1",
    "gru_layers.weight_hh_l1",
    "dense.weight",
    "dense.bias",
]


# ---------------------------------------------------------------------------------------------------------------------
# Helpers


def config_for(dataset, scratch, **options):
    """RecBole's configuration of GRU4Rec with its defaults; CE wants no negative samples, which its defaults forget."""
    return Config(
        model="GRU4Rec",
        dataset=dataset,
        config_dict={
            "train_neg_sample_args": None,
            "use_gpu": False,
            "gpu_id": "",
            "show_progress": False,
            "state": "ERROR",
            "checkpoint_dir": str(scratch),
            **options,
        },
    )


class Catalogue:
    """All that the model asks of a dataset: the number of items, padding included."""

    def __init__(self, items):
        self.items = items

    def num(self, field):
        return self.items


def flat(sequences):
    """Sequences as HDF5 can hold them without variable-length types: all items, and where each sequence starts."""
    offsets = np.zeros(len(sequences) + 1, dtype=np.uint64)
    offsets[1:] = np.cumsum([len(s) for s in sequences])
    items = np.concatenate([np.asarray(s, dtype=np.int32) for s in sequences])
    return items, offsets


def store(group, name, array):
    group.create_dataset(name, data=np.ascontiguousarray(array), track_times=False)


def store_parameters(group, tensors):
    for name in PARAMETERS:
        if name in tensors:
            store(group, name, tensors[name].detach().numpy().astype(np.float32))


def sequences_of(interaction):
    lengths = interaction["item_length"].tolist()
    return [row[:n] for row, n in zip(interaction["item_id_list"].tolist(), lengths)]


# ---------------------------------------------------------------------------------------------------------------------
# splits


def digest(tokens):
    return xxhash.xxh3_64_hexdigest(" ".join(tokens).encode())


def recbole_histories(dataset, train, valid, test):
    """Per user token: the item tokens of all its events in RecBole's order, read back from RecBole's three splits."""
    users, items = dataset.field2id_token["user_id"], dataset.field2id_token["item_id"]
    histories = {}
    rows = train.inter_feat
    for user, item, first, length in zip(
        rows["user_id"].tolist(), rows["item_id"].tolist(), rows["item_id_list"][:, 0].tolist(), rows["item_length"].tolist()
    ):
        if user not in histories:
            assert length == 1
            histories[user] = [first]
        histories[user].append(item)
    for split in (valid, test):
        rows = split.inter_feat
        for user, item, sequence in zip(rows["user_id"].tolist(), rows["item_id"].tolist(), sequences_of(rows)):
            assert sequence == histories[user][-50:], "an evaluation input is the last 50 items before its target"
            histories[user].append(item)
    return {users[u]: [items[i] for i in sequence] for u, sequence in histories.items()}


def write_splits(path, histories):
    with open(path, "w") as out:
        for user in sorted(histories, key=int):
            tokens = histories[user]
            out.write(
                f"{user}\t{len(tokens) - 2}\t{digest(tokens[:-2])}\t{digest(tokens[-2:-1])}\t{digest(tokens[-1:])}\n"
            )


def sorted_histories(events, key):
    """Per user, the items in the order of `key`, equal keys in file order."""
    histories = {}
    for user, item, _ in sorted(events, key=lambda event: key(event[2])):  # sorted() is stable
        histories.setdefault(user, []).append(item)
    return histories


def make_splits(scratch):
    config = config_for("ml-100k", scratch)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = dataset.build()
    assert (len(train), len(valid), len(test)) == (97171, 943, 943)
    by_recbole = recbole_histories(dataset, train, valid, test)
    write_splits(HERE / "splits_recbole.tsv", by_recbole)

    with open(PACKAGE / "dataset_example/ml-100k/ml-100k.inter") as lines:
        header = next(lines).rstrip("\n").split("\t")
        assert header == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
        events = [(user, item, int(float(time))) for user, item, _, time in (line.rstrip("\n").split("\t") for line in lines)]
    exact = sorted_histories(events, lambda time: time)
    write_splits(HERE / "splits_exact.tsv", exact)

    # check: the rule in words gives what RecBole gave
    first, last = min(e[2] for e in events), max(e[2] for e in events)
    in_words = sorted_histories(events, lambda time: float(np.float32((float(time) - first) / (last - first))))
    assert in_words == by_recbole
    same_test = sum(exact[u][-1] == by_recbole[u][-1] for u in exact)
    same = sum(exact[u] == by_recbole[u] for u in exact)
    print(f"splits: {len(exact)} users; exact order gives {same_test} equal test items, {same} equal histories")


# ---------------------------------------------------------------------------------------------------------------------
# scores


def make_scores(scratch):
    cases = [
        # name, items with padding, embedding, hidden, layers, factor on the initial weights
        ("small", 61, 16, 24, 1, 3.0),
        ("two_layers", 61, 16, 24, 2, 3.0),
        ("default_sizes", 301, 64, 128, 1, 3.0),
    ]
    with h5py.File(HERE / "scores.h5", "w", libver="earliest") as file:
        for number, (name, items, embedding, hidden, layers, factor) in enumerate(cases):
            config = config_for(
                "synthetic", scratch, embedding_size=embedding, hidden_size=hidden, num_layers=layers
            )
            init_seed(100 + number, True)
            model = GRU4Rec(config, Catalogue(items))
            with torch.no_grad():  # larger weights than the initial ones: the gates shall leave their linear range
                for parameter in model.parameters():
                    parameter.mul_(factor)
            model.eval()

            generator = np.random.default_rng(number)
            prefixes = [generator.integers(1, items, size=length).tolist() for length in range(1, 51)]
            padded = torch.zeros(50, 50, dtype=torch.int64)
            for row, prefix in enumerate(prefixes):
                padded[row, : len(prefix)] = torch.tensor(prefix)
            batch = {"item_id_list": padded, "item_length": torch.arange(1, 51)}
            with torch.no_grad():
                scores = model.full_sort_predict(batch)
                states = model.forward(batch["item_id_list"], batch["item_length"])
                exact = model.double().full_sort_predict(batch)  # how far float32 itself is from the truth
                model.float()
            error = (exact - scores.double()).abs().max().item()

            group = file.create_group(name)
            group.attrs.update(
                n_items=np.int32(items), embedding_size=np.int32(embedding), hidden_size=np.int32(hidden),
                num_layers=np.int32(layers), float32_error=np.float64(error),
            )
            store_parameters(group.create_group("parameters"), model.state_dict())
            flat_items, offsets = flat(prefixes)
            store(group, "items", flat_items)
            store(group, "offsets", offsets)
            store(group, "encoding", states.numpy())
            store(group, "scores", scores.numpy())
            print(f"scores/{name}: largest {scores.abs().max():.3f}, float32 against float64 {error:.1e}")


# ---------------------------------------------------------------------------------------------------------------------
# adam


def synthetic_sessions(items=40, sessions=30):
    """Sessions of 4 to 64 items over a small catalogue; a few are longer than MAX_ITEM_LIST_LENGTH + 1."""
    generator = np.random.default_rng(7)
    popular = 1.0 / np.arange(1, items + 1)
    lengths = generator.integers(4, 40, size=sessions)
    lengths[[3, 11, 20]] = [64, 54, 53]
    return [generator.choice(items, size=n, p=popular / popular.sum()).tolist() for n in lengths]


def write_interactions(folder, sessions):
    """RecBole's atomic file: one row an event, times that never tie."""
    folder.mkdir(exist_ok=True)
    with open(folder / f"{folder.name}.inter", "w") as out:
        out.write("user_id:token\titem_id:token\ttimestamp:float\n")
        time = 0
        for user, sequence in enumerate(sessions):
            for item in sequence:
                out.write(f"u{user}\ti{item}\t{time}\n")
                time += 1


class RecordingTrainer(Trainer):
    """RecBole's trainer, stopped after a number of steps, that keeps what went into them and what came out."""

    def record(self, train_data, steps):
        self.losses, self.batches, self.norms, self.first_gradient = [], [], [], {}

        def loss_of(batch):
            loss = self.model.calculate_loss(batch)
            self.batches.append(batch)
            self.losses.append(loss.item())
            return loss

        def observed_clip(parameters, **options):
            norm = clip_grad_norm_(parameters, **options)  # returns the norm before it clips
            self.norms.append(norm.item())
            return norm

        step = self.optimizer.step

        def observed_step(*args, **kwargs):
            if not self.first_gradient:
                self.first_gradient = {name: p.grad.clone() for name, p in self.model.named_parameters()}
            return step(*args, **kwargs)

        self.optimizer.step = observed_step
        recbole.trainer.trainer.clip_grad_norm_ = observed_clip
        self._train_epoch(train_data, 0, loss_func=loss_of)
        recbole.trainer.trainer.clip_grad_norm_ = clip_grad_norm_
        assert len(self.losses) == steps, len(self.losses)


def run_adam(config, dataset, double=False):
    """Ten steps of RecBole's training loop: one shuffled epoch of the synthetic data."""
    init_seed(config["seed"], config["reproducibility"])
    train_data, _, _ = data_preparation(config, dataset)
    model = GRU4Rec(config, train_data.dataset)
    with torch.no_grad():  # larger weights than the initial ones: gradients large enough to be clipped
        for parameter in model.parameters():
            parameter.mul_(3.0)
    if double:
        model.double()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = RecordingTrainer(config, model)
    trainer.record(train_data, steps=10)
    return model, start, trainer, train_data


def make_adam(scratch):
    sessions = synthetic_sessions()
    write_interactions(Path(scratch) / "synthetic", sessions)
    sizes = dict(embedding_size=12, hidden_size=20, dropout_prob=0.0, train_batch_size=68)
    cases = {
        "plain": {},
        "decay_and_clip": dict(weight_decay=0.01, clip_grad_norm={"max_norm": 0.5, "norm_type": 2}),
        "clip_at_times": dict(clip_grad_norm={"max_norm": 1.9, "norm_type": 2}),
        "two_layers": dict(num_layers=2),
    }
    loading = dict(data_path=str(scratch), load_col={"inter": ["user_id", "item_id", "timestamp"]})
    with h5py.File(HERE / "adam.h5", "w", libver="earliest") as file:
        common = None
        for name, options in cases.items():
            config = config_for("synthetic", scratch, **loading, **sizes, **options)
            model, start, trainer, train_data = run_adam(config, create_dataset(config))
            exact, _, exact_trainer, _ = run_adam(config, create_dataset(config), double=True)
            final = dict(model.named_parameters())
            weight_error = max((final[n].double() - p).abs().max().item() for n, p in exact.named_parameters())
            loss_error = max(abs(a - b) for a, b in zip(trainer.losses, exact_trainer.losses))

            samples, targets, counts = [], [], []
            for batch in trainer.batches:
                samples += sequences_of(batch)
                targets += batch["item_id"].tolist()
                counts.append(len(batch["item_id"]))
            if common is None:
                # ids of the sessions as RecBole numbered them; what it trains on, as a check of the data path
                ids = train_data.dataset.field2token_id["item_id"]
                numbered = [[int(ids[f"i{item}"]) for item in sequence] for sequence in sessions]
                assert sum(counts) == sum(len(s) - 3 for s in sessions)  # every event but the first, valid and test
                group = file.create_group("sessions")
                for key, array in zip(("items", "offsets"), flat(numbered)):
                    store(group, key, array)
                group = file.create_group("batches")
                for key, array in zip(("items", "offsets"), flat(samples)):
                    store(group, key, array)
                store(group, "targets", np.asarray(targets, dtype=np.int32))
                store(group, "step_offsets", np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64))
                common = (samples, targets, counts)
            assert common == (samples, targets, counts), "all cases see the same batches"

            group = file.create_group(name)
            clip = config["clip_grad_norm"] or {"max_norm": 0.0}
            norms = np.asarray(trainer.norms, dtype=np.float64)
            group.attrs.update(
                n_items=np.int32(train_data.dataset.num("item_id")), embedding_size=np.int32(12),
                hidden_size=np.int32(20), num_layers=np.int32(config["num_layers"]),
                learning_rate=np.float64(config["learning_rate"]), weight_decay=np.float64(config["weight_decay"]),
                clip_max_norm=np.float64(clip["max_norm"]), loss_float32_error=np.float64(loss_error),
                weight_float32_error=np.float64(weight_error),
            )
            store_parameters(group.create_group("start"), start)
            store_parameters(group.create_group("first_gradient"), trainer.first_gradient)
            store_parameters(group.create_group("final"), final)
            store(group, "loss", np.asarray(trainer.losses, dtype=np.float64))
            if norms.size:
                store(group, "gradient_norm", norms)
            print(
                f"adam/{name}: {counts[0]} to {counts[-1]} samples a step, loss {trainer.losses[0]:.6f} -> "
                f"{trainer.losses[-1]:.6f}, norms {np.round(norms, 2).tolist()}, float32 against "
                f"float64: loss {loss_error:.1e}, weights {weight_error:.1e}"
            )


# ---------------------------------------------------------------------------------------------------------------------
# metrics


class StubBatch:
    """Stands for a batch of interactions: the stub model below does not look at it."""

    def to(self, device):
        return self


class StubModel:
    def __init__(self, scores):
        self.scores = scores

    def full_sort_predict(self, interaction):
        return self.scores.clone()


def make_metrics(scratch):
    rows, items, topk = 40, 61, [1, 5, 10, 20]
    config = config_for("synthetic", scratch, topk=topk)
    generator = np.random.default_rng(3)
    # distinct scores within a row, as RecBole leaves the order of equal ones to chance; of either sign
    levels = np.sort(generator.normal(size=4 * items).astype(np.float32))
    assert len(np.unique(levels)) == levels.size
    scores = np.stack([generator.choice(levels, size=items, replace=False) for _ in range(rows)])
    scores[:, 0] = 100.0  # padding would win if it were not left out
    wanted = np.concatenate([[1, 1, 2, 3, 4, 5, 5, 6, 8, 10, 10, 11, 12, 15, 19, 20, 20, 21], generator.integers(1, items, rows - 18)])
    order = np.argsort(-scores[:, 1:], axis=1) + 1
    targets = order[np.arange(rows), wanted - 1]

    trainer = Trainer(config, GRU4Rec(config, Catalogue(items)))
    trainer.model, trainer.tot_item_num = StubModel(torch.from_numpy(scores)), items
    batch = (StubBatch(), None, torch.arange(rows), torch.from_numpy(targets))
    interaction, scored, users, positives = trainer._full_sort_batch_eval(batch)
    trainer.eval_collector.eval_batch_collect(scored, interaction, users, positives)
    collected = trainer.eval_collector.get_data_struct()
    printed = trainer.evaluator.evaluate(collected)

    with open(HERE / "metrics.tsv", "w") as out:
        for name, metric in trainer.evaluator.metric_class.items():
            hits, lengths = metric.used_info(collected)
            needs_length = name in ("recall", "ndcg")
            values = metric.metric_info(hits, lengths) if needs_length else metric.metric_info(hits)
            for k in topk:
                value = float(values.mean(axis=0)[k - 1])
                out.write(f"{name}\t{k}\t{value!r}\t{printed[f'{name}@{k}']:.4f}\n")
    with h5py.File(HERE / "metrics.h5", "w", libver="earliest") as file:
        store(file, "scores", scores)
        store(file, "targets", targets.astype(np.int32))
        store(file, "ranks", wanted.astype(np.int32))
    assert NDCG in {type(m) for m in trainer.evaluator.metric_class.values()}
    print("metrics:", dict(printed))


# ---------------------------------------------------------------------------------------------------------------------
# early stopping


def make_early_stopping(scratch):
    generator = np.random.default_rng(11)
    with open(HERE / "early_stopping.tsv", "w") as out:
        sequence = 0
        for patience in (0, 1, 3, 10):
            for bigger in (True, True, True, False):
                # a noisy climb, rounded as RecBole rounds, so that equal values occur
                level = np.cumsum(generator.normal(0.0015, 0.004, size=40)) + 0.02
                values = np.round(np.abs(level), 3 if sequence % 2 else 4)
                values = values if bigger else np.round(1.0 - values, 4)
                best, waited = (-np.inf if bigger else np.inf), 0
                for epoch, value in enumerate(values.tolist()):
                    best, waited, stop, update = early_stopping(value, best, waited, max_step=patience, bigger=bigger)
                    out.write(
                        f"{sequence}\t{patience}\t{int(bigger)}\t{epoch}\t{value!r}\t{best!r}\t{waited}\t{int(stop)}\t{int(update)}\n"
                    )
                    if stop:
                        break
                sequence += 1
        print(f"early_stopping: {sequence} sequences")


# ---------------------------------------------------------------------------------------------------------------------
# init


def make_init(scratch):
    items, embedding, hidden = 1683, 64, 128
    config = config_for("synthetic", scratch, embedding_size=embedding, hidden_size=hidden, num_layers=2)
    rules = {
        "item_embedding.weight": ("normal", (2 / (items + embedding)) ** 0.5),
        "gru_layers.weight_ih_l0": ("uniform", (6 / (3 * hidden + embedding)) ** 0.5),
        "gru_layers.weight_hh_l0": ("uniform", (6 / (3 * hidden + hidden)) ** 0.5),
        "gru_layers.weight_ih_l1": ("uniform", (1 / hidden) ** 0.5),
        "gru_layers.weight_hh_l1": ("uniform", (1 / hidden) ** 0.5),
        "dense.weight": ("uniform", (1 / hidden) ** 0.5),
        "dense.bias": ("uniform", (1 / hidden) ** 0.5),
    }
    with open(HERE / "init.tsv", "w") as out:
        for seed in range(2020, 2025):
            init_seed(seed, True)
            model = GRU4Rec(config, Catalogue(items))
            for name, tensor in model.state_dict().items():
                kind, parameter = rules[name]
                values = tensor.double().numpy()
                shape = "x".join(map(str, values.shape))
                out.write(
                    f"{name}\t{shape}\t{seed}\t{values.min():.9g}\t{values.max():.9g}\t{values.mean():.9g}\t"
                    f"{values.std():.9g}\t{kind}\t{parameter:.9g}\n"
                )
                # check of the closed formulas
                n = values.size
                spread = parameter if kind == "normal" else parameter / 3**0.5
                assert abs(values.std() / spread - 1) < 4 / n**0.5, (name, seed)
                if kind == "uniform":
                    assert np.abs(values).max() <= parameter * (1 + 1e-6), (name, seed)
                    assert np.abs(values).max() >= parameter * (1 - 20 / n), (name, seed)
                if name == "item_embedding.weight":
                    assert np.abs(values[0]).max() > 0, "the padding row is initialised too"
    print("init: 5 seeds, closed formulas hold")


# ---------------------------------------------------------------------------------------------------------------------
# keys


def make_keys(scratch):
    """RecBole's own defaults, file by file in the order in which it reads them; later files win."""
    files = [
        "properties/overall.yaml",
        "properties/model/GRU4Rec.yaml",
        "properties/dataset/sample.yaml",
        "properties/dataset/ml-100k.yaml",
        "properties/quick_start_config/sequential.yaml",
    ]
    loader = config_for("synthetic", scratch).yaml_loader
    with open(HERE / "recbole_keys.tsv", "w") as out:
        for name in files:
            with open(PACKAGE / name, encoding="utf-8") as text:
                options = yaml.load(text, Loader=loader)
            for key, value in options.items():
                out.write(f"{key}\t{json.dumps(value)}\t{name.removeprefix('properties/')}\n")
            print(f"keys: {len(options)} in {name}")


# ---------------------------------------------------------------------------------------------------------------------


def main():
    torch.set_num_threads(1)
    makers = {
        "splits": make_splits,
        "scores": make_scores,
        "adam": make_adam,
        "metrics": make_metrics,
        "early_stopping": make_early_stopping,
        "init": make_init,
        "keys": make_keys,
    }
    unknown = [part for part in PARTS if part not in makers]
    if unknown:
        sys.exit(f"unknown part {unknown[0]!r}; one of {', '.join(makers)}")
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # RecBole's TensorBoard logs go here
        for part in PARTS or makers:
            makers[part](scratch)


if __name__ == "__main__":
    main()
