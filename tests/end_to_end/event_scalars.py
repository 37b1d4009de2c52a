"""What TensorBoard itself reads of event files: event_scalars.py RUN [all]

Prints `tag step value` of every scalar of RUN/tensorboard, sorted; without `all` those that are not times and differ from run to
run. Fails unless the files say what metrics.jsonl and result.json do.
"""
import json
import pathlib
import sys

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = pathlib.Path(sys.argv[1])
accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
accumulator.Reload()
found = [(tag, event.step, event.value) for tag in accumulator.Tags()["scalars"] for event in accumulator.Scalars(tag)]

wanted = []
for line in (run / "metrics.jsonl").read_text().splitlines():
    record = json.loads(line)
    step = record.pop("step")
    for key, value in record.items():
        if isinstance(value, bool):
            continue  # no scalar
        parts = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else None
        wanted += [(f"epoch/{key}", step, value)] if parts is None else [(f"{key}/{part}", step, x) for part, x in parts.items()]
last = step
wanted += [(f"test/{name}", last, value) for name, value in json.loads((run / "result.json").read_text())["test"].items()]
wanted = sorted((tag, step, float(numpy.float32(value))) for tag, step, value in wanted)
other = sorted(scalar for scalar in found if not scalar[0].startswith("train/"))
assert other == wanted, set(other) ^ set(wanted)
for tag in ("train/loss", "train/learning_rate"):
    assert [step for name, step, _ in found if name == tag] == list(range(1, last + 1)), f"not every step has a {tag}"

is_time = lambda tag: tag.startswith(("time/", "rank_")) or "second" in tag
for tag, step, value in sorted(found):
    if "all" in sys.argv[2:] or not is_time(tag):
        print(tag, step, repr(value))
