"""Ten networks together against ten one by one, and a Bi-RPT step against plain ones: ratios within one run.

A Bi-RPT step works on a target batch and, every so often, on a source batch. Its cost is given against plain gradient
steps on the same batches: one of transfer, and that part of one of pretraining.

    python tests/benchmarks/replicates.py [STEPS [REPEATS]]
"""

import itertools
import sys
import time

import pandas as pd
import torch

from xyield.measurements import measurements
from xyield.methods import bi_rpt
from xyield.runs import ALLOY_SETTINGS, Alloys
from xyield.splits import FewShot
from xyield.training import Hardware, Stage, accelerator_for, make_optimizer, torch_threads

REPLICATES = 10
WORLD = Alloys(measurements(), FewShot(0.8), n_simulated=2000)
EVERY = ALLOY_SETTINGS.bilevel.lower_every
STAGES = {"pretraining": Stage("source", ALLOY_SETTINGS.pretrain), "transfer": Stage("target", ALLOY_SETTINGS.transfer),
          "Bi-RPT, lower level every step": bi_rpt(ALLOY_SETTINGS, lower_every=1)[-1],
          f"Bi-RPT, every {EVERY} steps": bi_rpt(ALLOY_SETTINGS)[-1]}


def endless(domain, seeds, batch_size):
    for epoch in itertools.count():
        yield from WORLD.batches(domain, seeds, epoch, batch_size)


def seconds_per_step(stage, n_networks, steps, repeats):
    "The best of several timings of one training step of a stack of `n_networks`."
    seeds, accelerator = list(range(n_networks)), accelerator_for(Hardware("cpu"))
    network = WORLD.network(seeds)
    optimizer = make_optimizer(network.parameters(), stage.schedule)
    step = stage.step(network, network, WORLD, optimizer, accelerator)
    source = endless("source", seeds, stage.source_batch) if stage.source_batch else None
    batches, timings = endless(stage.domain, seeds, stage.schedule.batch_size), []
    for _ in range(repeats + 1):  # the first warms up
        began = time.process_time()  # of one thread, whatever else the machine does
        for batch in itertools.islice(batches, steps):
            step(batch, source)
        timings.append((time.process_time() - began) / steps)
    return min(timings[1:])


def main(steps=30, repeats=3):
    rows = []
    with torch_threads(1):
        for name, stage in STAGES.items():
            alone, together = (seconds_per_step(stage, n, steps, repeats) for n in (1, REPLICATES))
            rows.append({"step": name, "1 network (ms)": 1e3 * alone, f"{REPLICATES} together (ms)": 1e3 * together,
                         "speed-up of stacking": REPLICATES * alone / together})
    table = pd.DataFrame(rows)
    plain = table.set_index("step")[f"{REPLICATES} together (ms)"]
    for name, every in (("Bi-RPT, lower level every step", 1), (f"Bi-RPT, every {EVERY} steps", EVERY)):
        same_batches = plain["transfer"] + plain["pretraining"] / every
        table.loc[table["step"] == name, "times plain steps on its batches"] = plain[name] / same_batches
    print(f"torch {torch.__version__}, one thread\n{table.round(2).to_string(index=False)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
