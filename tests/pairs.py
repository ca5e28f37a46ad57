"""Two processes want the same at the same moment, forty times.

python -m tests.pairs FOLDER: results of three kinds, of which one process computes each and both have the same; then
records and files that both write. Prints a line a kind; whatever goes wrong is an error.
"""

import os
import sys
import time
import warnings
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from tests.worlds import SETTINGS, Plane, said
from xyield.measurements import measurements
from xyield.methods import no_pretraining
from xyield.peers import peers, run_regressor
from xyield.splits import FewShot
from xyield.store import atomic_path, identity, load_record, runs_dir, save_record, stored
from xyield.training import trained

PAIRS = 40
POINTS = measurements()


class SaidSplit:
    "A protocol that is asked once for each row that is computed."

    def split(self, points, seed):
        said("split")
        return FewShot(0.05).split(points, seed)


def compute(progress):
    said("computed")
    time.sleep(0.005)
    return {"value": np.arange(1000), "by": os.getpid()}


def result(n):
    found = stored(identity("results", n=n), compute)
    return found["by"], found["value"].sum()


def network(n):
    found = trained(no_pretraining(SETTINGS), Plane(), [n])
    return found["seconds"], float(found["history"]["loss"].sum())


def row(n):
    rows = run_regressor("mean", peers()["mean"], SaidSplit(), POINTS, [n])
    return rows["seconds"][0], float(np.sum(rows["prediction"][0]))


def record(n):
    save_record(runs_dir() / "record", {"value": np.full(1000, n)})
    return len(load_record(runs_dir() / "record")["value"])  # whole, whoever wrote it last


def file(n):
    with atomic_path(runs_dir() / "file") as temporary:
        time.sleep(0.001 * (n % 3))
        temporary.write_text(str(n))
    return True


KINDS = {"stored": result, "networks": network, "regressors": row, "records": record, "files": file}


def process(kind, barrier, answers):
    warnings.simplefilter("error")
    for n in range(PAIRS):
        barrier.wait(60)
        answers.put((n, KINDS[kind](n)))


def pairs(kind, folder):
    "Forty rounds of a kind of result; how often the answers were the same, and how often they were computed."
    os.environ |= {"XYIELD_RUNS": str(folder / "runs"), "XYIELD_SAID": str(folder / "said.txt")}
    folder.mkdir()
    (folder / "said.txt").touch()
    fork = get_context("fork")
    barrier, answers, found = fork.Barrier(2), fork.SimpleQueue(), {}
    both = [fork.Process(target=process, args=(kind, barrier, answers)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
        assert one.exitcode == 0, f"a process has ended with {one.exitcode}"
    while not answers.empty():
        n, answer = answers.get()
        found.setdefault(n, []).append(answer)
    same = sum(len(pair) == 2 and pair[0] == pair[1] for pair in found.values())
    computed = len((folder / "said.txt").read_text().splitlines())
    left = [p for p in (folder / "runs").rglob("*") if p.is_file()]
    assert len(left) == max(computed, 1), f"files are left over: {left}"
    return f"{kind}: {same} pairs, {computed} computations"


if __name__ == "__main__":
    for kind in KINDS:
        print(pairs(kind, Path(sys.argv[1]) / kind))
