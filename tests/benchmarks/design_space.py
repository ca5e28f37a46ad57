"""How fast the design space is swept, as ratios within one run: `python tests/benchmarks/design_space.py`.

Points are alloys × temperatures (45 of them, 300 to 2500 K). Each number is the best of several repeats. Nothing is
asserted: times belong to a machine and to a moment, which is why the speed of memory is measured beside them.
"""

import argparse
import io
import json
import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xyield.simulator import BOLTZMANN, TAYLOR_FACTOR, strength_parameters, yield_strength
from xyield.space import DesignSpace, temperature_grid
from xyield.survey import distribution, strengths, two_parameters

SPACE, KELVIN = DesignSpace(), temperature_grid(50)
FIRST = 30_000_000  # among the quaternaries, three quarters of the space


def best(function, repeats):
    "Wall and processor seconds of the fastest of several repeats, after one to warm up."
    function()
    times = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return min(times)


def numpy_float32(compositions):
    "The formulas on whole arrays: sums in float64, the sweep over temperatures in float32."
    tau_y0, barrier = strength_parameters(compositions)
    scale = np.float32(TAYLOR_FACTOR) * tau_y0.astype(np.float32)
    inverse = (BOLTZMANN * np.log(1e7) / barrier).astype(np.float32)
    root, decay = np.cbrt(inverse) ** 2, np.exp(-inverse / np.float32(0.55) * np.float32(50))
    high = scale * np.exp(-inverse / np.float32(0.55) * np.float32(300))
    total = 0.0
    for t in KELVIN.astype(np.float32):
        low = 1 - root * np.float32(t ** (2 / 3))
        total += np.where(low >= 0.5, scale * low, high).sum(dtype=np.float64)
        high *= decay
    return total


def measure(n, repeats, threads):
    small, whole = range(FIRST, FIRST + 100_000), range(FIRST, FIRST + n)
    some = SPACE.compositions(np.asarray(small))
    out = np.empty((len(KELVIN), 1 << 20), np.float32)
    pieces = [range(i, min(i + (1 << 20), whole.stop)) for i in range(whole.start, whole.stop, 1 << 20)]

    def write():
        for piece in pieces:
            strengths(KELVIN, piece, threads=threads, out=out[:, : len(piece)])

    def encode(tau_y0, theta):
        table = pa.table({"tau_y0": tau_y0, "theta": theta})
        pq.write_table(table, io.BytesIO(), compression="zstd", compression_level=1, use_dictionary=False,
                       column_encoding=dict.fromkeys(table.column_names, "BYTE_STREAM_SPLIT"), row_group_size=1 << 18)

    both = two_parameters(range(FIRST, FIRST + (1 << 22)), dtype=np.float32, threads=threads)
    quiet = dict(threads=threads, progress=False)
    return {  # name -> (points, (wall seconds, processor seconds))
        "numba, moments": (n, best(lambda: distribution(KELVIN, whole, upper=0, **quiet), repeats)),
        "numba, moments and histogram": (n, best(lambda: distribution(KELVIN, whole, **quiet), repeats)),
        "numba, write float32": (n, best(write, repeats)),
        "numpy float32, sum": (len(small), best(lambda: numpy_float32(some), repeats)),
        "numpy float64, store": (len(small), best(lambda: yield_strength(some, KELVIN[:, None]), repeats)),
        "memset float32": (len(pieces) << 20, best(lambda: [out.fill(0) for _ in pieces], repeats)),
        "Parquet of two parameters": (len(both[0]), best(lambda: encode(*both), repeats)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alloys", type=int, default=1 << 23, help="alloys in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--whole", action="store_true", help="also the histogram of all 3,090,464,685 points, once")
    chosen = parser.parse_args()
    rows = {}
    for name, (n, (wall, processor)) in measure(chosen.alloys, chosen.repeats, chosen.threads).items():
        points = n * len(KELVIN)
        rows[name] = {"points_per_second": points / wall, "points_per_processor_second": points / processor}
    reference, memory = rows["numpy float64, store"], rows["memset float32"]
    for row in rows.values():
        row["times_numpy_float64"] = row["points_per_second"] / reference["points_per_second"]
        row["of_memset"] = row["points_per_second"] / memory["points_per_second"]
    if chosen.whole:
        began = time.perf_counter()
        points = int(distribution(KELVIN, threads=chosen.threads, progress=False).counts.sum())
        seconds = time.perf_counter() - began
        rows["whole space, histogram"] = {"points_per_second": points / seconds, "seconds": seconds}
    if chosen.json:
        print(json.dumps({"threads": chosen.threads, "rows": rows}, indent=1))
        return
    print(f"{chosen.threads} threads; points per second of wall clock (and of processor), × numpy float64, of memset")
    for name, row in rows.items():
        if "seconds" in row:
            print(f"{name:30s} {row['points_per_second']:10.2e} {row['seconds']:9.1f} s")
        else:
            print(f"{name:30s} {row['points_per_second']:10.2e} ({row['points_per_processor_second']:.2e})"
                  f" {row['times_numpy_float64']:8.1f} {row['of_memset']:7.2f}")


if __name__ == "__main__":
    main()
