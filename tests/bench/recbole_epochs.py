#!/usr/bin/env python3
"""Trains RecBole's GRU4Rec on ml-100k as RecBole does, one epoch at a time; run.py measures it.

    python recbole_epochs.py SEED EPOCHS

Each line of standard input lets it train one epoch; at its end it goes away. It prints a line of JSON when it is ready and one
after each epoch: seconds and processor seconds of the process so far without the time it waited for input, seconds of training
alone, and the metrics on valid. What RecBole prints itself goes to standard error.

Nothing of RecBole is replaced. It imports aliases that NumPy has dropped, so those are put back.
"""

import json
import logging
import os
import sys
import tempfile
import time

SEED, EPOCHS = int(sys.argv[1]), int(sys.argv[2])
sys.argv = sys.argv[:1]  # RecBole reads options from sys.argv
RESULTS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import numpy as np

for alias, kind in {"bool": bool, "int": int, "float": float, "object": object, "str": str}.items():
    if alias not in np.__dict__:
        setattr(np, alias, kind)
for alias, kind in {"bool8": np.bool_, "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
    if alias not in np.__dict__:
        setattr(np, alias, kind)

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.transform import construct_transform
from recbole.model.sequential_recommender.gru4rec import GRU4Rec
from recbole.trainer import Trainer
from recbole.utils import get_flops, init_logger, init_seed


class SteppedTrainer(Trainer):
    """RecBole's trainer, which waits for a line before each epoch and reports after it."""

    waited = 0.0

    def report(self, **values):
        line = {"clock": time.monotonic() - self.waited, "cpu": time.process_time(), **values}
        print(json.dumps(line), file=RESULTS, flush=True)

    def _train_epoch(self, train_data, epoch_idx, *arguments, **options):
        before = time.monotonic()
        if not sys.stdin.readline():
            os._exit(0)
        self.waited += time.monotonic() - before
        start, cpu = time.monotonic(), time.process_time()
        loss = super()._train_epoch(train_data, epoch_idx, *arguments, **options)
        self.train = {"train_seconds": time.monotonic() - start, "train_cpu": time.process_time() - cpu}
        return loss

    def _valid_epoch(self, valid_data, *arguments, **options):
        score, result = super()._valid_epoch(valid_data, *arguments, **options)
        self.report(epoch=max(self.train_loss_dict) + 1, valid=dict(result), **self.train)
        return score, result


def main(scratch):
    """As run_recbole of 1.2.1, step by step."""
    torch.set_num_threads(1)
    config = Config(
        model="GRU4Rec",
        dataset="ml-100k",
        config_dict={
            "train_neg_sample_args": None,
            "seed": SEED,
            "epochs": EPOCHS,
            "topk": [10, 20],
            "use_gpu": False,
            "gpu_id": "",
            "show_progress": False,
            "checkpoint_dir": scratch,
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    dataset = create_dataset(config)
    train_data, valid_data, _ = data_preparation(config, dataset)
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    model = GRU4Rec(config, train_data._dataset).to(config["device"])
    get_flops(model, dataset, config["device"], logging.getLogger(), construct_transform(config))
    trainer = SteppedTrainer(config, model)
    trainer.report(targets=len(train_data._dataset))
    trainer.fit(train_data, valid_data, saved=True, show_progress=False)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)  # RecBole writes logs where it stands
    main(folder)
