"""The tables of tests/bench/run.py out of measurements that are made up."""

import importlib.util
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
SOURCE = pathlib.Path(__file__).resolve().parent.parent / "bench/run.py"
spec = importlib.util.spec_from_file_location("run", SOURCE)
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


def expect(got, wanted):
    if got != wanted:
        raise SystemExit(f"got {got!r}\nwanted {wanted!r}")


def epochs(*valid):
    return [{"epoch": i + 1, "clock": 10.0 * (i + 1), "cpu": 8.0 * (i + 1), "train_seconds": 9.0, "train_cpu": 8.0, "valid": value}
            for i, value in enumerate(valid)]


# The first of three in a row whose mean is RecBole's best; one lucky evaluation is not enough.
expect(run.reached([0.01, 0.09, 0.01, 0.01]), None)
expect(run.reached([0.01, 0.045, 0.046, 0.047, 0.01]), 2)
expect(run.reached([0.05, 0.05]), None)
expect(run.reached([0.05, 0.05, 0.05]), 1)

# Times are those of that first evaluation; ratios are taken round by round.
recbole = {"targets": 900, "recbole": epochs(0.01, 0.02, 0.05, 0.05, 0.05),
           "ours": {"2020": epochs(0.05, 0.05, 0.05), "2021": epochs(0.01)},
           "rate": [{"clock": 1000.0, "cpu": 1125.0}, {"clock": 3000.0, "cpu": 2250.0}]}
rows = {(row.group, row.what): row.values for row in run.RecBole().rows(recbole)}
expect(rows["rate", "targets/s, RecBole"], [100.0] * 5)
expect(rows["rate", "**gru4rec ÷ RecBole**"], [10.0, 30.0])
expect(rows["rate", "**gru4rec ÷ RecBole, processor time**"], [10.0, 20.0])
expect(rows["time to quality", "s, RecBole, seed 2020"], [30.0])
expect(rows["time to quality", "s, gru4rec, 2 seeds"], [10.0, float("inf")])
expect(rows["time to quality", "**RecBole ÷ gru4rec**"], [3.0, 0.0])
expect(run.table(run.RecBole(), recbole)[-4], "|  | s of processor time, gru4rec, 2 seeds | 8.0 | never | never |")
expect(run.RecBole().notes(recbole), ["gru4rec did not reach it with the seeds 2021."])

# A roof is the sum of its parts in the same round.
parts = {"step": [40.0, 60.0], "products": [30.0, 35.0], "exp": [2.0, 5.0], "libtorch": [80.0, 90.0]}
benchmarks = [{"name": f"small/{part}", "round": i, "ms": times[i]} for part, times in parts.items() for i in (1, 0)]
lines = run.table(run.Step(), {"benchmarks": benchmarks})
expect(lines[2], "| small | step, ms | 40.0 | 50.0 | 60.0 |")
expect(lines[6:], ["|  | **step ÷ (products + exp)** | 1.25 | **1.38** | 1.50 |", "|  | **libtorch ÷ step** | 1.50 | **1.75** | 2.00 |"])

# An epoch is longer than those of the run in turn are without what they wait, on the same cores.
rounds = [{"cores": cores, "background": background, "megabytes": 1018.2, "waits": waits, "seconds": seconds}
          for cores, background, waits, seconds in (("the same core", "false", [4.0, 3.0, 5.0], [14.0, 13.5, 15.0]),
                                                    ("the same core", "true", [0.5, 0.5, 0.5], [12.0, 13.0, 16.0]),
                                                    ("all cores", "false", [3.0], [23.0]), ("all cores", "true", [0.5], [20.6]))]
rows = {(row.group, row.what): row.values for row in run.Checkpoints().rows({"rounds": rounds})}
expect(rows["in turn, the same core", "s that training waits"], [4.0, 3.0, 5.0])
expect(rows["in the background, the same core", "s that an epoch is longer"], [2.0, 3.0, 6.0])
expect(rows["in the background, the same core", "**% of the time, one a minute**"], [100 * each / 60 for each in (2.0, 3.0, 6.0)])
expect([round(each, 6) for each in rows["in the background, all cores", "s that an epoch is longer"]], [0.6])

# What a processor has decides what it can be measured without.
avx512 = "avx2 fma avx512f avx512bw avx512vl avx512dq"
expect([name for name, _ in run.instruction_sets("avx2 fma")], [])
expect([name for name, _ in run.instruction_sets(avx512)], ["AVX-512", "AVX2"])
expect([name for name, _ in run.instruction_sets(avx512 + " amx_tile")], ["AVX-512 and AMX", "AVX-512", "AVX2"])
expect([name for name, _ in run.instruction_sets(avx512 + " avx512_bf16")], ["AVX-512 and its bf16", "AVX-512", "AVX2"])
expect(run.table(run.InstructionSets(), {"sets": {}}), ["This processor has no AVX-512, so there is nothing to go without."])

# Only what is between the marks of a page changes, and writing it twice is the same as once.
with tempfile.TemporaryDirectory() as folder:
    run.PERFORMANCE = pathlib.Path(folder) / "page.md"
    run.PERFORMANCE.write_text("before\n<!-- run.sh step -->\nold\n<!-- end -->\nafter\n<!-- run.sh ranks -->\n<!-- end -->\n")
    for _ in range(2):
        run.write_performance({"step": ["a", "b"]})
        expect(run.PERFORMANCE.read_text(),
               "before\n<!-- run.sh step -->\n\na\nb\n\n<!-- end -->\nafter\n<!-- run.sh ranks -->\n<!-- end -->\n")
# Every section has its place in the page of this project.
for section in run.SECTIONS:
    expect(f"<!-- run.sh {section.name} -->\n" in (SOURCE.parent.parent.parent / "docs/performance.md").read_text(), True)
