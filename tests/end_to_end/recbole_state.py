#!/usr/bin/env python3
"""RecBole's side of recbole_state.sh: its dataset, its model, its trainer, its evaluation, on ml-100k.

    recbole_state.py prepare DATA      recbole-items.json: item ids in RecBole's order. saved.pth: a model as RecBole's trainer saves
                                       it; state.pth, plain.pth: its weights alone, as Module.state_dict gives them and as a
                                       plain dictionary; plain.ids.json: ids of their rows; saved.txt: what RecBole's evaluation says of it
    recbole_state.py check DATA        exported.txt: what RecBole's evaluation says of exported.pth; script.jsonl: what model.pt
                                       recommends to the sessions of sessions.jsonl
"""

import json
import sys

task, data = sys.argv[1:]
sys.argv = sys.argv[:1]  # RecBole reads options from sys.argv

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender.gru4rec import GRU4Rec
from recbole.trainer import Trainer
from recbole.utils import init_seed

options = {
    "data_path": data,
    "train_neg_sample_args": None,
    "topk": [20],
    "metrics": ["Recall", "MRR"],
    "valid_metric": "MRR@20",
    "checkpoint_dir": ".",
    "use_gpu": False,
    "gpu_id": "",
    "show_progress": False,
    "state": "ERROR",
}
config = Config(model="GRU4Rec", dataset="ml-100k", config_dict=options)
init_seed(config["seed"], config["reproducibility"])
dataset = create_dataset(config)
train_data, _, test_data = data_preparation(config, dataset)
model = GRU4Rec(config, train_data.dataset)
trainer = Trainer(config, model)
items = dataset.field2id_token["item_id"].tolist()


def evaluate(name):
    result = trainer.evaluate(test_data, load_best_model=False)
    with open(name, "w") as out:
        print("recall@20 %.4f  mrr@20 %.4f" % (result["recall@20"], result["mrr@20"]), file=out)


if task == "prepare":
    for name in ["recbole-items.json", "plain.ids.json"]:
        with open(name, "w") as out:
            json.dump(items, out)
    trainer._save_checkpoint(0, verbose=False, saved_model_file="saved.pth")
    torch.save(model.state_dict(), "state.pth")
    torch.save(dict(model.state_dict()), "plain.pth")
    evaluate("saved.txt")
else:
    model.load_state_dict(torch.load("exported.pth"))
    evaluate("exported.txt")
    script = torch.jit.load("model.pt")
    sessions = [json.loads(line)["session"] for line in open("sessions.jsonl")]
    with open("script.jsonl", "w") as out:
        for names, scores in script.recommend(sessions, 20):
            print(json.dumps({"items": names, "scores": scores}), file=out)
