"""Ten networks together against ten one by one, and a Bi-RPT step against plain ones: ratios within one run.

A Bi-RPT step works on a target batch and, every so often, on a source batch. Its cost is given against plain gradient
steps on the same batches: one of transfer, and that part of one of pretraining.

    python tests/benchmarks/replicates.py
"""

import dataclasses
import time

import numpy as np
import pandas as pd
import torch

from xyield.bilevel import BiRPT, BiRPTState
from xyield.measurements import measurements
from xyield.networks import TASKS, new_networks
from xyield.space import simulated_sample
from xyield.training import (
    PRETRAIN,
    TRANSFER,
    Pretraining,
    as_tensors,
    epoch_batches,
    make_optimizer,
    torch_threads,
    train_epoch,
)

REPLICATES, STEPS, REPEATS = 10, 30, 3
TASK = TASKS["regression"]


def seconds_per_step(epoch_of, data, schedule, n_networks):
    "The best of several timings of one training step of a stack of `n_networks`."
    images, strengths = data
    seeds = list(range(n_networks))
    model = new_networks(TASK.n_outputs, seeds)
    optimizer, _ = make_optimizer(model.parameters(), schedule)
    epoch = epoch_of(model, seeds)
    support = np.tile(np.arange(STEPS * schedule.batch_size), (n_networks, 1)) % len(images)
    timings = []
    for i in range(REPEATS + 1):  # the first warms up
        batches = epoch_batches(support, seeds, i, schedule.batch_size)
        began = time.process_time()  # of one thread, whatever else the machine does
        epoch(model, images, strengths, batches, TASK, optimizer)
        timings.append((time.process_time() - began) / STEPS)
    return min(timings[1:])


def main():
    simulated, measured = as_tensors(simulated_sample(2000)), as_tensors(measurements())
    birpt = BiRPT(Pretraining(n_simulated=2000), lower_every=1)
    lower_every = BiRPT().lower_every
    sparse_lower = dataclasses.replace(birpt, lower_every=lower_every)
    cases = {
        "pretraining": (lambda model, seeds: train_epoch, simulated, PRETRAIN),
        "transfer": (lambda model, seeds: train_epoch, measured, TRANSFER),
        "Bi-RPT, lower level every step": (lambda m, s: BiRPTState(birpt, m, TASK, s).epoch, measured, TRANSFER),
        f"Bi-RPT, every {lower_every} steps": (
            lambda m, s: BiRPTState(sparse_lower, m, TASK, s).epoch, measured, TRANSFER),
    }
    rows = []
    with torch_threads(1):
        for name, case in cases.items():
            alone, together = seconds_per_step(*case, 1), seconds_per_step(*case, REPLICATES)
            rows.append({"step": name, "1 network (ms)": 1e3 * alone, f"{REPLICATES} together (ms)": 1e3 * together,
                         "speed-up of stacking": REPLICATES * alone / together})
    table = pd.DataFrame(rows)
    plain = table.set_index("step")[f"{REPLICATES} together (ms)"]
    for name, every in (("Bi-RPT, lower level every step", 1), (f"Bi-RPT, every {lower_every} steps", lower_every)):
        same_batches = plain["transfer"] + plain["pretraining"] / every
        table.loc[table["step"] == name, "times plain steps on its batches"] = plain[name] / same_batches
    print(f"torch {torch.__version__}, one thread\n{table.round(2).to_string(index=False)}")


if __name__ == "__main__":
    main()
