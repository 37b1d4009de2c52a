#!/usr/bin/env python3
"""A model of the time of a training step on any number of ranks: what is computed, from figures of one core, and what is sent,
from figures of `gru4rec doctor`. Prints tables in Markdown; docs/scaling.md explains the terms and holds them against runs.

    tests/bench/scaling.py                                   the forecast to 1,024 ranks
    tests/bench/scaling.py --items 17376 --embedding_size 128 --targets 512 --cores 1 --link 0.107 --ranks 1,2

Every figure may be replaced by one's own; docs/scaling.md says which defaults were measured, on one core of a Xeon with AMX in bf16.
"""

import argparse
import dataclasses
import sys


@dataclasses.dataclass
class Machine:
    cores: float  # of a rank, each as fast as the one that was measured
    softmax: float  # floating-point operations a second of the whole softmax with its gradients, one core
    encoder: float  # the same of GRU and dense layer
    update: float  # parameters a second that the optimizer updates, one core
    adding: float  # floats a second that a rank adds to others in the ordered sum, one core
    link: float  # bytes a second that a rank sends while it receives as many
    latency: float  # seconds that a message costs beside its bytes


@dataclasses.dataclass
class Job:
    items: int
    embedding: int
    hidden: int
    targets: int  # of a rank and step

    @property
    def table(self):
        return self.items * self.embedding

    @property
    def encoder_parameters(self):
        return 3 * self.hidden * (self.embedding + self.hidden) + self.hidden * self.embedding

    @property
    def parameters(self):
        return self.table + self.encoder_parameters


def parts_of(job, machine, ranks, layout):
    """Seconds of a step by what they go to. layout: `ours`; `whole`, which ours is with overlap, where each rank gets the whole sum
    and updates all; or `sharded`, where each rank has a part of the table and of its moments."""
    softmax = 6 * job.targets * job.table / machine.softmax
    encoder = 6 * job.targets * job.encoder_parameters / machine.encoder
    updated = {"ours": job.parameters / ranks, "whole": job.parameters,
               "sharded": job.table / ranks + job.encoder_parameters}[layout]
    parts = {"softmax": softmax, "encoder": encoder, "update": updated / machine.update}
    parts = {name: seconds / machine.cores for name, seconds in parts.items()}
    if ranks == 1:
        return parts | {"sum": 0.0}
    # The gradient of the output layer and that of the inputs are summed apart, and added by the optimizer; the latter by the rows
    # that were read, each once at most, where they are few (ParameterLayout::reads_few_rows).
    read = job.targets * ranks
    rows = min(read, job.items)
    summed = (0 if layout == "sharded" else job.table + rows * job.embedding) + job.encoder_parameters
    gathered = job.parameters if layout == "ours" else summed
    others = (ranks - 1) / ranks
    sent = 4 * (summed + gathered) * others  # partial sums to the owners of their slices, and these, updated, to everybody
    if layout == "sharded":
        # Queries to every owner and their gradients back; item vectors of the inputs and their gradients; three numbers a target.
        sent += 4 * (ranks - 1) * job.targets * (2 * job.embedding + 3) + 2 * 4 * job.targets * job.embedding
    adding = summed * others / machine.adding / machine.cores
    if layout != "sharded" and 2 * job.items > read:  # a bit for each row of a small table, else their ids, before the step
        sent += (ranks - 1) * (job.items / 8 if job.items < 32768 else 8 * job.targets)
    messages = (3 if layout == "ours" else 2) * (ranks - 1)
    return parts | {"sum": sent / machine.link + adding + messages * machine.latency}


def seconds_of(parts, overlap):
    """overlap: the share of the softmax and encoder that the sum can hide behind."""
    computed = sum(parts.values()) - parts["sum"]
    return computed + max(parts["sum"] - overlap * (parts["softmax"] / 3 + parts["encoder"]), 0)


def print_table(job, machine, ranks, layouts, overlap, what):
    print(f"\n{what}: {job.items:,} items, E {job.embedding}, H {job.hidden}, {job.targets:,} targets a rank and step, "
          f"{machine.cores:g} cores a rank, {machine.link / 1e9:g} GB/s, {machine.latency * 1e6:g} µs a message\n")
    print("| ranks | computed, ms | sum, ms | step, ms | targets/s | of one rank's rate × ranks |"
          + "".join(f" {name}, of that |" for name in layouts[1:]))
    print("|---|---|---|---|---|---|" + "---|" * (len(layouts) - 1))
    alone = seconds_of(parts_of(job, machine, 1, layouts[0]), 0)
    for count in ranks:
        cells = []
        for layout in layouts:
            parts = parts_of(job, machine, count, layout)
            seconds = seconds_of(parts, overlap)
            if layout == layouts[0]:
                cells += [f"{1e3 * (sum(parts.values()) - parts['sum']):.1f}", f"{1e3 * parts['sum']:.1f}", f"{1e3 * seconds:.1f}",
                          f"{count * job.targets / seconds:,.0f}"]
            cells.append(f"{alone / seconds:.0%}")
        print(f"| {count:,} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, help="of the catalogue; without it, the forecast for 20,000 and 1,000,000")
    parser.add_argument("--embedding_size", type=int, default=128)
    parser.add_argument("--hidden_size", type=int, default=128)
    parser.add_argument("--targets", type=int, default=2048, help="of a rank and step (default 2048)")
    parser.add_argument("--ranks", default="1,2,4,8,16,32,64,128,256,512,1024")
    parser.add_argument("--cores", type=float, default=16, help="of a rank, taken as that many times one (default 16)")
    parser.add_argument("--softmax", type=float, default=SOFTMAX, help="operations a second of one core")
    parser.add_argument("--encoder", type=float, default=ENCODER, help="the same, of GRU and dense layer")
    parser.add_argument("--update", type=float, default=UPDATE, help="parameters a second")
    parser.add_argument("--adding", type=float, default=ADDING, help="floats a second")
    parser.add_argument("--link", type=float, default=10, help="GB/s of a rank, one way (default 10)")
    parser.add_argument("--latency", type=float, default=5, help="µs a message (default 5)")
    parser.add_argument("--overlap", type=float, default=0, help="share of a third of the softmax and the encoder that hides the sum")
    a = parser.parse_args()
    if min(a.cores, a.softmax, a.encoder, a.update, a.adding, a.link) <= 0 or a.latency < 0 or a.targets < 1:
        sys.exit("rates, cores and targets must be above 0")
    machine = Machine(a.cores, a.softmax, a.encoder, a.update, a.adding, a.link * 1e9, a.latency * 1e-6)
    ranks = [int(text) for text in a.ranks.split(",")]
    ours = "whole" if a.overlap > 0 else "ours"
    if a.items:
        job = Job(a.items, a.embedding_size, a.hidden_size, a.targets)
        print_table(job, machine, ranks, [ours], a.overlap, "Step")
        return
    layouts = [ours, "sharded"]
    print_table(Job(20_000, 128, 128, a.targets), machine, ranks, layouts, a.overlap, "Forecast")
    print_table(Job(1_000_000, 64, 128, a.targets), machine, ranks, layouts, a.overlap, "Forecast")


SOFTMAX, ENCODER, UPDATE, ADDING = 480e9, 200e9, 640e6, 1e9

main()
