"""Does a GPU give what the CPU gives, and how much faster? `python tests/gpu_check.py`, some minutes.

For each stage of training, on alloys and on images: by how much losses on the GPU differ from those on the CPU, in
single and in mixed precision; what a step takes on both, alone and with ten and a hundred networks trained together,
recorded as a graph (chapter 42) and not; what two processes gain, on two GPUs or on the CPU; Table 2 of the smoke
profile through papermill, and a part of the whole one. It needs the installed package, and for these two the repository
and papermill; without them it says so. On a machine without a GPU it runs the CPU's half. On one with a GPU,
`--output tables` keeps what is printed as `gpu.md`, with its numbers and its sidecar, the card named.
"""

import argparse
import copy
import importlib.util
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xyield import gpu
from xyield.alloy_world import Alloys
from xyield.experiments import execute, read_profile, read_tasks
from xyield.image_runs import image_settings
from xyield.image_world import ImagePairs
from xyield.measurements import measurements
from xyield.methods import bi_rpt, changed, pretrain_transfer
from xyield.paper import METHODS
from xyield.report import write_table
from xyield.runs import ALLOY_SETTINGS, paper_methods, run
from xyield.splits import FewShot
from xyield.statistics import interval
from xyield.store import machine, project_root
from xyield.testbed import Testbed
from xyield.training import (
    Hardware,
    _batches,
    _endless,
    accelerator_for,
    load_network,
    make_optimizer,
    resolve_device,
    torch_threads,
    trained,
)

SHORT = {"pretrain": {"epochs": 2}}
FEW, TOLERANCE = 6, 0.02  # steps whose losses are compared, and by what share they may differ
MANY = 60  # steps on a GPU whose losses are compared, recorded and kernel by kernel
MOVED = 1e-7  # the share by which weights are moved, to see what a last digit becomes in these steps
ROUNDS, WARM = 5, 50  # timings of a step on a GPU, and steps before them: after them, each shape has been recorded


def worlds(small):
    "name -> (world, settings)"
    alloys = Alloys(measurements(), FewShot(0.1), n_simulated=500 if small else 20_000)
    pair = ImagePairs(Testbed(items="digits", source_per_class=2 if small else 50, heldout_per_class=2))
    return {"alloys": (alloys, ALLOY_SETTINGS), "images": (pair, image_settings(pair.data.target))}


def stages(settings):
    pretrain, transfer = pretrain_transfer(settings)
    return {"source": pretrain, "target": transfer, "Bi-RPT": bi_rpt(settings)[-1]}


def losses(world, stage, seeds, hardware, recorded=True, network=None):
    "Losses of step after step, with what changes from epoch to epoch; on a GPU recorded, as `fit` takes them, or not."
    accelerator, schedule = accelerator_for(hardware), stage.schedule
    network = (copy.deepcopy(network) or world.network(seeds)).to(accelerator.device).train()
    optimizer = make_optimizer(network.parameters(), schedule)
    step = stage.step(accelerator.prepare(network), network, world, optimizer, accelerator)
    if accelerator.device.type == "cuda":
        step = gpu.recorded(step, world, accelerator) if recorded else gpu.PreciseStep(step)
    source = _endless(world, "source", seeds, 0, stage.source_batch, accelerator) if stage.source_batch else None
    for epoch in itertools.count():
        optimizer.param_groups[0]["lr"] = schedule.rate(epoch % schedule.epochs)
        for batch in _batches(world, stage.domain, seeds, epoch, schedule.batch_size, accelerator):
            yield step(batch, source)
        step.end_epoch()


def moved(network):
    "A copy whose weights differ in the last digit."
    found, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in found.parameters():
            weight.mul_(1 + MOVED * torch.randn(weight.shape, generator=generator))
    return found


def compare(small, device):
    "From the same networks, by how much the losses of the first steps differ."
    rows, cpu, ways = [], Hardware("cpu"), {}
    if device == "cuda":
        ways = {"GPU": Hardware(device), "GPU again": Hardware(device), "bf16": Hardware(device, precision="bf16")}
    for name, (world, settings) in worlds(small).items():
        with tempfile.TemporaryDirectory() as os.environ["XYIELD_RUNS"]:
            pretrained = load_network(pretrain_transfer(changed(settings, SHORT))[:1], world, [0], cpu)[0]
        for kind, stage in stages(settings).items():
            start = world.network([0]) if kind == "source" else pretrained
            cases = {"CPU": (cpu, start), "CPU moved": (cpu, moved(start))} | {w: (h, start) for w, h in ways.items()}
            found = {way: np.array([float(loss) for loss in itertools.islice(
                losses(world, stage, [0], hardware, network=network), FEW)])
                for way, (hardware, network) in cases.items()}
            row = {"world": name, "step": kind, "first loss": found["CPU"][0], f"loss of step {FEW}": found["CPU"][-1]}
            rows.append(row | {f"{way}, differs by": np.abs(other / found["CPU"] - 1).max()
                               for way, other in found.items() if way not in ("CPU", "GPU again")})
            if device == "cuda":
                rows[-1]["GPU, twice the same"] = bool((found["GPU"] == found["GPU again"]).all())
                plain, recorded, off = (torch.stack([loss.clone() for loss in itertools.islice(
                    losses(world, stage, [0], Hardware(device), *how), MANY)])
                    for how in ((False, start), (True, start), (False, moved(start))))
                rows[-1] |= {"recorded, differs by": float((recorded - plain).abs().max()),
                             "moved, differs by": float((off - plain).abs().max())}
    return pd.DataFrame(rows)


def milliseconds(world, stage, n, device, recorded, steps):
    "What a step of `n` networks takes, with its batch; the median of some rounds."
    taken = losses(world, stage, list(range(n)), Hardware(device), recorded)

    def take(count):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            next(taken)
        if device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - began) / count

    with torch_threads(1):
        take(WARM if device == "cuda" else 2)
        return statistics.median(take(steps) for _ in range(ROUNDS))


def steps(small, device, numbers):
    "A row a step: what it takes on the CPU, on the GPU, and on the GPU as `fit` takes it."
    rows = []
    for name, (world, settings) in worlds(small).items():
        for n, (kind, stage) in itertools.product(numbers if name == "alloys" else (1,), stages(settings).items()):
            row = {"world": name, "step": kind, "networks": n}
            row["CPU, ms"] = milliseconds(world, stage, n, "cpu", False, 3 if small or n > 10 else 10)
            if device == "cuda":
                row["GPU, ms"] = milliseconds(world, stage, n, device, False, 30)
                row["GPU as trained, ms"] = milliseconds(world, stage, n, device, True, 30)
            rows.append(row)
    table = pd.DataFrame(rows)
    last = table.columns[-1]
    one = table[table["networks"] == 1].set_index(["world", "step"])[last]
    own = pd.Series([one[key] for key in zip(table["world"], table["step"], strict=True)])
    table["over one network"] = table["networks"] * own / table[last]
    return table if device == "cpu" else table.assign(**{"CPU / GPU": table["CPU, ms"] / table[last]})


def table_2(device):
    "The few-shot row of Table 2 that says most, with all its trainings; beside it the committed one, made on a CPU."
    committed = project_root() / "tables" / "tab02_few_shot.csv"
    if device == "cpu" or not committed.is_file():
        return None
    on_cpu = pd.read_csv(committed).query("task == 'regression' and fraction == .1 and selection == 'last'")
    world, rows = Alloys(measurements(), FewShot(0.1)), []
    with tempfile.TemporaryDirectory() as os.environ["XYIELD_RUNS"]:
        for method, chain in paper_methods().items():
            began = time.perf_counter()
            found = run(chain, world, list(range(10)), Hardware(device))
            mean, half = interval(found["last"])
            rows.append({"method": METHODS[method], "MSE (GPa²), GPU": f"{mean:.3f} ± {half:.3f}",
                         "GPU, s": time.perf_counter() - began})
    of = on_cpu.set_index("method").loc[[*paper_methods()]]
    cpu = [f"{mean:.3f} ± {half:.3f}" for mean, half in zip(of["ours_mean"], of["ours_ci95"], strict=True)]
    return pd.DataFrame(rows).assign(**{"MSE (GPa²), CPU": cpu})


def two_processes(small, device):
    "What a second process gains, with half of each batch: on a second GPU, or on the CPU to see that it works."
    if device == "cuda" and torch.cuda.device_count() < 2:
        return None
    world, settings = worlds(small)["images"]
    torch.set_num_threads(1)  # a forked process has none of its parent's threads, and would wait for them
    found = []
    for processes in (1, 2):
        with tempfile.TemporaryDirectory() as os.environ["XYIELD_RUNS"]:
            chain = pretrain_transfer(changed(settings, SHORT))[:1]
            record = trained(chain, world, [0], Hardware(device, processes=processes))
        found.append({"processes": processes, "last loss": float(np.mean(record["history"]["loss"][-1])),
                      "seconds": record["seconds"]})
    return pd.DataFrame(found)


def notebooks(device):
    "Wall time of the smoke profile's Table 2 and what it rests on, through papermill."
    root = Path(__file__).resolve().parents[1]
    if importlib.util.find_spec("papermill") is None or not (root / "nbs" / "experiments").is_dir():
        return None
    rows, folder = [], root / "nbs" / "experiments"
    settings, tasks = read_profile(root / "profiles" / "smoke.yml", folder), read_tasks(folder)
    for where in dict.fromkeys(("cpu", device)):
        with tempfile.TemporaryDirectory() as temporary:
            os.environ["XYIELD_RUNS"] = temporary
            for name in (*tasks["tab02_few_shot"].after, "tab02_few_shot"):
                began, notebook = time.perf_counter(), tasks[name].notebook
                given = tasks[name].given(settings, "smoke") | {"device": where}
                execute(notebook, Path(temporary, f"{name}.ipynb"), given)
                rows.append({"notebook": name, "device": where, "seconds": time.perf_counter() - began})
            assert Path(settings["output"], "tables", "tab02_few_shot.csv").is_file(), "Table 2 was not made"
    return pd.DataFrame(rows)


def readable(table):
    return table.map(lambda x: f"{x:.4g}" if isinstance(x, float) else x)


def section(title, table, otherwise):
    text = otherwise if table is None else readable(table).to_markdown(index=False, disable_numparse=True)
    return f"**{title}**\n\n{text}"


def record(found, parts, head, seconds, folder):
    "`gpu.csv`, every number by part, row and column; `gpu.md`, the steps first; and the sidecar."
    tables = {name: table.astype(object) for name, table in found.items() if table is not None}
    numbers = pd.concat([table.rename_axis("row").reset_index().melt("row", var_name="column").assign(part=name)
                         for name, table in tables.items()])
    notes = [f"{head}; {seconds:.0f} s in all. Milliseconds of a step with its batch; a CPU trains on one thread. "
             "*GPU*: each kernel is launched by itself. *As trained*: a step is recorded and replayed (chapter 42). "
             "*Over one network*: how many times the networks a second, by the column before it. *Differs by*: the "
             "largest share by which a loss differs from the CPU's in the first steps, from the same network. "
             f"*Recorded, differs by*: the largest difference of a loss in {MANY} steps, replayed or one by one. "
             "*Moved, differs by*: what a last digit of the weights makes of it."]
    notes += [section(parts[name][0], table, parts[name][2]) for name, table in found.items() if name != "steps"]
    write_table(numbers[["part", "row", "column", "value"]], Path(folder) / "gpu.csv", "What a GPU gives", "gpu", {},
                readable(found["steps"]), "\n\n".join(notes), card=head.partition(";")[0], seconds=round(seconds))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="sizes for a test")
    parser.add_argument("--output", type=Path, help="a folder for gpu.csv, .md and .json; on a machine with a GPU only")
    chosen = parser.parse_args(arguments)
    device, began, small = resolve_device("auto").type, time.perf_counter(), chosen.small
    where = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    head = f"{where}; {machine()['processor']}; PyTorch {torch.__version__}"
    parts = {
        "losses": ("Does it give the same?", lambda: compare(small, device), None),
        "steps": ("What a step takes", lambda: steps(small, device, (1, 2) if small else (1, 10, 100)), None),
        "processes": ("Two processes", lambda: two_processes(small, device), "Not run: it needs two GPUs."),
        "notebooks": ("The smoke profile's Table 2, through papermill", lambda: notebooks(device),
                      "Not run: it needs the repository and papermill."),
        "table 2": ("Table 2 with 23 points: ten splits, last epoch", lambda: None if small else table_2(device),
                    "Not run: it needs a GPU, and the repository's tables."),
    }
    print(head, flush=True)
    found = {}
    for name, (title, compute, otherwise) in parts.items():
        found[name] = compute()
        print(f"\n{section(title, found[name], otherwise)}", flush=True)
    if chosen.output and device == "cuda":
        record(found, parts, head, time.perf_counter() - began, chosen.output)
    first = found["losses"]
    assert np.isfinite(first["first loss"]).all(), "a loss is not finite"
    if device == "cuda":
        assert (first["GPU, differs by"] < TOLERANCE + 10 * first["CPU moved, differs by"]).all(), "losses differ"
        assert first["GPU, twice the same"].all(), "the same seed gives other numbers"
        assert (first["recorded, differs by"] < TOLERANCE + 10 * first["moved, differs by"]).all(), "replays differ"
    return found


if __name__ == "__main__":
    main()
