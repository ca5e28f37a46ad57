"""A small reproduction in processes that are killed: forked ten times, then left alone.

python killed.py TABLE SEED: kills by SIGKILL, at random moments and in random writes; prints one line a kill.
python killed.py TABLE: undisturbed.
"""

import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import pandas as pd

from xyield import training
from xyield.measurements import measurements
from xyield.methods import changed
from xyield.networks import Architecture
from xyield.report import write_table
from xyield.runs import ALLOY_SETTINGS, Alloys, paper_methods, run
from xyield.splits import FewShot
from xyield.statistics import summarise

KILLS = 10


def reproduce(table: Path):
    "Pretrain, prune, transfer and write a table: everything that `make reproduce` writes, on a small scale."
    training.SAVE_SECONDS = 0.0  # progress after every epoch
    world = Alloys(measurements(), FewShot(0.05), n_simulated=1500, architecture=Architecture((4, 4, 4), 8))
    settings = changed(ALLOY_SETTINGS, {"pretrain": {"epochs": 3}, "transfer": {"epochs": 3}})
    rows = [run(chain, world, [0, 1, 2]).assign(method=name) for name, chain in paper_methods(settings).items()]
    write_table(summarise(pd.concat(rows), ["method"]), table, "A small table", "smoke", {})


def kill_in_write(n: int):
    "Let this process kill itself when it is about to flush or to rename its n-th file."
    calls = 0

    def deadly(function):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)
        return call

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)


def main(table: Path, seed: int | None = None):
    warnings.simplefilter("error")  # a killed process leaves nothing that looks damaged
    if seed is None:
        reproduce(table)
        return
    rng = random.Random(seed)
    for _ in range(KILLS):
        in_write, seconds, n = rng.random() < 0.7, rng.uniform(0.05, 2.0), rng.randint(1, 16)
        child = os.fork()
        if not child:
            if in_write:
                kill_in_write(n)
            reproduce(table)
            os._exit(0)
        if not in_write:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return  # it was faster
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"ended by itself, status {status}"
        print(f"killed in write {n}" if in_write else f"killed after {seconds:.2f} s", flush=True)
    reproduce(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
