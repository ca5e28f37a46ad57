"""Which tables come back on another arithmetic: `make portability` writes `tables/portability`.

The same notebooks, each time into an empty store, with the libraries told to compute as on another processor, or with
another number of threads. What this processor does not have cannot be tried: settings only take instructions away.

    python tests/benchmarks/portability.py [--profiles smoke,laptop] [--settings again,two threads] [--output FOLDER]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from xyield.experiments import execute, notebook_parameters, read_profile, read_tasks
from xyield.report import write_table
from xyield.store import machine, project_root, runs_dir

ONE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
LIBRARIES = {  # what tells a library to compute as on a processor without AVX-512, and as on one without AVX
    "oneDNN": ("ONEDNN_MAX_CPU_ISA", "AVX2", "SSE41"), "MKL": ("MKL_CBWR", "AVX2", "COMPATIBLE"),
    "PyTorch's loops": ("ATEN_CPU_CAPABILITY", "avx2", "default"),
    "OpenBLAS": ("OPENBLAS_CORETYPE", "Haswell", "Nehalem"),
    "NumPy's loops": (
        "NPY_DISABLE_CPU_FEATURES", "X86_V4 AVX512_ICL AVX512_SPR", "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"),
    "numba": ("NUMBA_CPU_NAME", "haswell", "generic")}
SETTINGS = {
    "once": {}, "again": {}, "two threads": dict.fromkeys(ONE, "2"),
    "all without AVX-512": {name: value for name, value, _ in LIBRARIES.values()},
    **{f"{library} without AVX": {name: value} for library, (name, _, value) in LIBRARIES.items()},
    "all without AVX": {name: value for name, _, value in LIBRARIES.values()}}
PLAN = {  # profile -> settings, and targets with what differs from the profile
    "smoke": (list(SETTINGS), {"taba13_datasets": {}, "tab02_few_shot": {}, "tabe1_peers": {}, "taba07_images": {}}),
    "laptop": (["once", "two threads", "all without AVX-512", "all without AVX"], {
        "tab02_few_shot": {"tasks": ["regression"], "fractions": [0.05]}})}
NEEDED = {"laptop": ["pretrain_regression"]}  # of what comes before the targets; all of it if not given


def run(profile: str, folder: Path):
    "In a process of its own: the targets of a profile, and what comes before them, into `folder`."
    notebooks = project_root() / "nbs" / "experiments"
    tasks, todo = read_tasks(notebooks), list(PLAN[profile][1])
    settings = read_profile(project_root() / "profiles" / f"{profile}.yml", notebooks)
    for name in todo:  # it grows
        todo += [before for before in tasks[name].after if before in NEEDED.get(profile, tasks) and before not in todo]
    for name in sorted(todo, key=lambda name: -tasks[name].left):  # what others wait for comes first
        where = {"output": str(folder)} if "output" in notebook_parameters(tasks[name].notebook) else {}
        given = tasks[name].given(settings, profile) | PLAN[profile][1].get(name, {}) | where
        execute(tasks[name].notebook, folder / f"{name}.ipynb", given)


def compare(once: Path | TextIO, other: Path) -> dict:
    "How a table differs from the first run's: its cells, and means that have an interval beside them."
    first, second = (pd.read_csv(p).filter(regex="^(?!seconds)") for p in (once, other))  # times are another matter
    numbers = list(first.select_dtypes("number"))
    same = (first == second) | (first.isna() & second.isna())
    apart = (first[numbers] - second[numbers]).abs().fillna(np.inf).where(~same[numbers], 0).to_numpy()
    size = first[numbers].abs().clip(lower=1e-12).fillna(1).to_numpy()
    pairs = [(c, f"{c.removesuffix('_mean')}_ci95") for c in numbers if not c.startswith("paper")]
    within = [((first[m] - second[m]).abs() <= first[i])[first[i].notna()] for m, i in pairs if i in first]
    return {"cells": same.size, "same": int(same.to_numpy().sum()), "largest": float(np.max(apart, initial=0)),
            "largest_relative": float(np.max(apart / size, initial=0)), "means": sum(map(len, within)),
            "within": int(sum(w.sum() for w in within))}


def measure(profiles: list[str], settings: list[str], keep: Path) -> pd.DataFrame:
    rows = []
    for profile in profiles:
        for setting in (s for s in PLAN[profile][0] if s in ("once", *settings)):
            folder = keep / profile / setting.replace(" ", "-")
            environment = os.environ | ONE | SETTINGS[setting] | {"XYIELD_RUNS": str(folder)}
            command = [sys.executable, __file__, "--run", profile, "--output", folder]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            for path in sorted((keep / profile / "once" / "tables").glob("*.csv")):
                if setting != "once":
                    found = compare(path, folder / "tables" / path.name)
                    rows.append({"profile": profile, "table": path.stem, "setting": setting, **found})
                    print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def in_words(row) -> str:
    if row["same"] == row["cells"]:
        return "to the digit"
    means = f", {row['within']} of {row['means']} means within their interval" if row["means"] else ""
    return f"{row['same'] / row['cells']:.0%} to the digit{means}, at most {row['largest_relative']:.1g} apart"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", default="smoke,laptop")
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--output", default="tables")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        return run(chosen.run, Path(chosen.output).resolve())
    settings = [name for name in SETTINGS if name in chosen.settings.split(",")]
    runs_dir().mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs_dir()) as keep:
        table = measure(chosen.profiles.split(","), settings, Path(keep))
    shown = table[["profile", "table", "setting"]].assign(result=table.apply(in_words, axis=1))
    notes = (f"Each against a first run, on {machine()['processor']} with one thread; “again” is the same once more. "
             "“apart” is relative. A setting only takes instructions away that this processor has.")
    write_table(table, Path(chosen.output) / "portability.csv", "Which tables come back on another arithmetic", "bench",
                {"profiles": chosen.profiles, "settings": {name: SETTINGS[name] for name in settings},
                 "targets": {profile: PLAN[profile][1] for profile in chosen.profiles.split(",")}}, shown, notes)


if __name__ == "__main__":
    main()
