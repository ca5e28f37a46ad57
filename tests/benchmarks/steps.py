"""What a step costs, beside the least that it can cost on this processor: `make bench` writes `tables/speed`.

Processor time of one thread, the median of several rounds; in every round each step is timed once, and with it a matrix
product and a copy of memory. The bound is the floating-point operations of a step at the rate of the product, plus
what has to pass through memory for the weights alone at the rate of the copy. Nothing is asserted: times belong to a
machine and to what else it does.

    python tests/benchmarks/steps.py [--rounds N] [--output FOLDER]
"""

import argparse
import itertools
import os
import statistics
import time
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from xyield.alloy_world import Alloys
from xyield.image_runs import TESTBED_SETTINGS
from xyield.image_world import ImagePairs
from xyield.measurements import measurements
from xyield.methods import bi_rpt
from xyield.report import write_table
from xyield.runs import ALLOY_SETTINGS
from xyield.splits import FewShot
from xyield.store import machine
from xyield.testbed import Testbed
from xyield.training import Hardware, Stage, accelerator_for, make_optimizer, torch_threads

STEPS = 10  # in a timing
PER_WEIGHT = {"sgd": 6, "momentum": 8, "adam": 10}  # numbers that pass through memory in a step: the weight is read
# twice and updated (read and written), its gradient is written and read, and so are the optimiser's own


def training(world, settings, seeds):
    "Name of a step -> the function that takes it, and numbers that it moves for each weight."
    stages = {"source": Stage("source", settings.pretrain), "target": Stage("target", settings.transfer),
              "Bi-RPT": bi_rpt(settings)[-1]}
    return {name: one_step(world, stage, seeds) for name, stage in stages.items()}


def one_step(world, stage, seeds):
    def endless(domain, batch_size):
        for epoch in itertools.count():
            yield from world.batches(domain, seeds, epoch, batch_size)

    network, schedule = world.network(seeds), stage.schedule
    optimizer, accelerator = make_optimizer(network.parameters(), schedule), accelerator_for(Hardware("cpu"))
    step = stage.step(network, network, world, optimizer, accelerator)
    batches = endless(stage.domain, schedule.batch_size)
    source = endless("source", stage.source_batch) if stage.source_batch else None
    numbers = PER_WEIGHT["adam" if schedule.optimizer == "adam" else "momentum" if schedule.momentum else "sgd"]
    return lambda: step(next(batches), source), numbers * sum(p.numel() for p in network.parameters())


def cases():
    "(World, networks, step) -> function, and how many numbers it has to move."
    alloys, found = Alloys(measurements(), FewShot(0.8), n_simulated=2000), {}
    for n in (1, 10):
        seeds = list(range(n))
        steps = training(alloys, ALLOY_SETTINGS, seeds)
        network = alloys.network(seeds)
        steps["evaluation"] = (lambda network=network, seeds=seeds: alloys.after_epoch(network, "target", seeds),
                               sum(p.numel() for p in network.parameters()))
        found |= {("alloys", n, name): case for name, case in steps.items()}
    images = training(ImagePairs(Testbed(items="digits")), TESTBED_SETTINGS["CUB-200"], [0])
    return found | {("images", 1, name): case for name, case in images.items()}


def seconds(function, n=1):
    began = time.process_time()
    for _ in range(n):
        function()
    return (time.process_time() - began) / n


def operations(function, n=STEPS):
    "Floating-point operations of a step of one network, as PyTorch counts them: it is wrong about groups."
    with FlopCounterMode(display=False) as counter:
        for _ in range(n):
            function()
    return counter.get_total_flops() / n


def measure(rounds):
    "A row a step; and the rates of this processor: operations a second, bytes a second."
    steps, matrix, long = cases(), torch.randn(512, 512), torch.empty(1 << 25)
    alone = {(world, step): operations(function) for (world, n, step), (function, _) in steps.items() if n == 1}
    times, products, copies = {case: [] for case in steps}, [], []
    for _ in range(rounds + 1):  # the first warms up
        products.append(seconds(lambda: matrix @ matrix, 20))
        copies.append(seconds(long.clone))
        for case, (function, _) in steps.items():
            times[case].append(seconds(function, STEPS))
    rate, speed = 2 * 512**3 / statistics.median(products[1:]), 8 * len(long) / statistics.median(copies[1:])
    rows = []
    for case, (_, numbers) in steps.items():
        world, n, name = case
        flops = n * alone[world, name]
        ms = 1e3 * statistics.median(times[case][1:])
        bound = 1e3 * (flops / rate + 4 * numbers / speed)
        rows.append({
            "world": world, "networks": n, "step": name, "ms": ms, "bound_ms": bound, "of_bound": bound / ms,
            "Gflop": flops / 1e9, "MB": 4e-6 * numbers,
            "spread": 1e3 * (max(times[case][1:]) - min(times[case][1:])) / ms})
    return pd.DataFrame(rows), rate, speed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", default="tables")
    chosen = parser.parse_args()
    before = os.getloadavg()[0]
    with torch_threads(1):
        table, rate, speed = measure(chosen.rounds)
    shown = pd.DataFrame({
        "step": table["world"] + ", " + table["step"], "networks": table["networks"].astype(str),
        "ms": table["ms"].map("{:.1f}".format), "bound, ms": table["bound_ms"].map("{:.1f}".format),
        "bound / step": table["of_bound"].map("{:.0%}".format), "range / median": table["spread"].map("{:.0%}".format)})
    load = [round(before, 1), round(os.getloadavg()[0], 1)]
    notes = (f"Processor time of one thread of {machine()['processor']}, medians of {chosen.rounds} rounds of "
             f"{STEPS} steps. The bound: operations at {rate / 1e9:.0f} Gflop/s (a product of matrices of 512 × 512) "
             f"and the weights' way through memory at {speed / 1e9:.1f} GB/s (a copy), both of the same rounds. "
             "A Bi-RPT step has a lower "
             "level at every fifth step of alloys and every fourth of images; an evaluation is that of all "
             "measured alloys.")
    if max(load) > 1.5:
        notes += (" **Others used the machine meanwhile**: processor time is not free of them, so read ratios within "
                  "the table, not milliseconds.")
    write_table(table, Path(chosen.output) / "speed.csv", "What a step costs", "bench", {"rounds": chosen.rounds},
                shown, notes, threads=1, cores=os.cpu_count(), load=load, flop_per_second=rate,
                bytes_per_second=speed)
    print((Path(chosen.output) / "speed.md").read_text())


if __name__ == "__main__":
    main()
