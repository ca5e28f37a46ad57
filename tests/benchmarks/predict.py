"""How long a first answer takes, and a fit, idle and with all cores busy: `python tests/benchmarks/predict.py`.

Every line is the median of several processes, each with an empty home, no store and a copy of the package that nobody
has imported yet. The busy lines have one endless process on every core beside them. Nothing is asserted: seconds belong
to a machine and to what else it does, which is why the load is printed first.
"""

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "xyield"
FIT = """
import time
from xyield.measurements import measurements
from xyield.estimator import XYieldEstimator
points = measurements()
wall, processor = time.perf_counter(), time.process_time()
XYieldEstimator().fit(points, points["yield_strength"])
print(time.perf_counter() - wall, time.process_time() - processor)
"""


def fresh(code, *arguments):
    "Wall and processor seconds of a new Python that runs `code`, and what it printed."
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE, Path(folder) / "xyield", ignore=shutil.ignore_patterns("__pycache__"))
        kept = {k: v for k, v in os.environ.items() if k != "XYIELD_RUNS" and not k.endswith("_NUM_THREADS")}
        before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True,
                              check=True, env=kept | {"HOME": folder, "PYTHONPATH": folder})
        wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def first_answer():
    command = "import sys; from xyield.command_line import main; sys.exit(main(sys.argv[1:]))"
    return fresh(command, "predict", "MoNbTaTiW")[:2]


def fit():
    return tuple(map(float, fresh(FIT)[2].split()))


def interpreter():
    return fresh("import numpy, pandas, scipy.stats")[:2]


@contextlib.contextmanager
def busy(n):
    "With `n` processes that compute nothing, for ten minutes at the most."
    endless = "import time; end = time.time() + 600\nwhile time.time() < end: pass"
    others = [subprocess.Popen([sys.executable, "-c", endless]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before it began; median of {chosen.repeats}")
    print(f"{'':52s} wall (s)  cpu (s)")
    for n in (0, os.cpu_count()):
        with busy(n):
            for name, function in {"import numpy, pandas and scipy.stats": interpreter,
                                   "xyield predict, first call": first_answer,
                                   "XYieldEstimator().fit, 238 points": fit}.items():
                walls, processors = zip(*(function() for _ in range(chosen.repeats)), strict=True)
                line = f"{name}, {'all cores busy' if n else 'idle'}"
                print(f"{line:52s} {statistics.median(walls):8.2f} {statistics.median(processors):8.2f}", flush=True)


if __name__ == "__main__":
    main()
