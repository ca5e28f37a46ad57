"""Does a GPU give what the CPU gives, and how much faster? `python tests/gpu_check.py`, some minutes.

For each stage of training, on alloys and on images: the losses on the CPU and on the GPU, and steps per second on both;
what ten and a hundred networks trained together gain over one; what two processes gain, on two GPUs or on the CPU; and
the time of the smoke profile's Table 2 through papermill. It needs the installed package, and for the last of these the
repository and papermill; without them it says so. On a machine without a GPU it runs the CPU's half. On one with a GPU,
`--write tables/gpu.md` keeps what is printed, the card named.
"""

import argparse
import importlib.util
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xyield.alloy_world import Alloys
from xyield.experiments import execute, read_profile, read_tasks
from xyield.image_runs import image_settings
from xyield.image_world import ImagePairs
from xyield.measurements import measurements
from xyield.methods import bi_rpt, changed, pretrain_transfer
from xyield.runs import ALLOY_SETTINGS
from xyield.splits import FewShot
from xyield.testbed import Testbed
from xyield.training import Hardware, trained

SHORT = {"pretrain": {"epochs": 2}, "transfer": {"epochs": 2}}
TOLERANCE = 0.02  # of the mean loss of the first epoch; later ones, rounding drives apart


def worlds(small):
    "name -> (chains, world)"
    n = 500 if small else 20_000
    alloys = Alloys(measurements(), FewShot(0.1), n_simulated=n)
    data = Testbed(items="digits", source_per_class=2 if small else 50, heldout_per_class=2)
    pair = ImagePairs(data)
    settings = {"alloys": changed(ALLOY_SETTINGS, SHORT), "images": image_settings(data.target, SHORT)}
    chains = {name: (pretrain_transfer(s), bi_rpt(s)) for name, s in settings.items()}
    return {"alloys": (chains["alloys"], alloys), "images": (chains["images"], pair)}


def stages(chain, world, seeds, device):
    "For each stage of `chain`: its kind, the losses of its epochs, and its steps per second."
    with tempfile.TemporaryDirectory() as folder:  # every device computes for itself
        os.environ["XYIELD_RUNS"] = folder
        for end in range(1, len(chain) + 1):
            stage, record = chain[end - 1], trained(chain[:end], world, seeds, Hardware(device))
            loss = np.asarray(record["history"]["loss"], dtype=np.float64).reshape(len(record["history"]["loss"]), -1)
            batches = sum(1 for _ in world.batches(stage.domain, seeds, 0, stage.schedule.batch_size))
            yield f"{stage.kind}, {stage.domain}", loss.mean(1), batches * len(loss) / record["seconds"]


def compare(small, device):
    "One row a stage."
    rows = []
    for name, (chains, world) in worlds(small).items():
        found = {where: [*stages(chains[0], world, [0], where), *list(stages(chains[1], world, [0], where))[1:]]
                 for where in dict.fromkeys(("cpu", device))}
        for cpu, other in zip(found["cpu"], found[device], strict=True):
            rows.append({"world": name, "stage": cpu[0], "loss, CPU": cpu[1][0], f"loss, {device}": other[1][0],
                         "steps/s, CPU": cpu[2], f"steps/s, {device}": other[2]})
    return pd.DataFrame(rows)


def stacked(small, device, numbers):
    "How many times as many networks a second, trained together, as one alone."
    (chain, _), world = worlds(small)["alloys"]
    speed = {n: n * next(stages(chain, world, list(range(n)), device))[2] for n in (1, *numbers)}
    return pd.DataFrame({"together": speed.keys(), "networks × steps/s": speed.values(),
                         "over one": np.array(list(speed.values())) / speed[1]})


def two_processes(small, device):
    "What a second process gains, with half of each batch: on a second GPU, or on the CPU to see that it works."
    if device == "cuda" and torch.cuda.device_count() < 2:
        return None
    (chain, _), world = worlds(small)["images"]
    found = []
    for processes in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XYIELD_RUNS"] = folder
            record = trained(chain[:1], world, [0], Hardware(device, processes=processes))
            found.append({"processes": processes, "last loss": float(np.mean(record["history"]["loss"][-1])),
                          "seconds": record["seconds"]})
    return pd.DataFrame(found)


def notebooks(device):
    "Wall time of the smoke profile's Table 2 and what it rests on, through papermill."
    root = Path(__file__).resolve().parents[1]
    if importlib.util.find_spec("papermill") is None or not (root / "nbs" / "experiments").is_dir():
        return None
    rows, folder = [], root / "nbs" / "experiments"
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XYIELD_RUNS"] = temporary
        settings, tasks = read_profile(root / "profiles" / "smoke.yml", folder), read_tasks(folder)
        for name in (*tasks["tab02_few_shot"].after, "tab02_few_shot"):
            began, notebook = time.perf_counter(), tasks[name].notebook
            given = tasks[name].given(settings, "smoke") | {"device": device}
            execute(notebook, Path(temporary, f"{name}.ipynb"), given)
            rows.append({"notebook": name, "seconds": time.perf_counter() - began})
        assert Path(settings["output"], "tables", "tab02_few_shot.csv").is_file(), "Table 2 was not made"
    return pd.DataFrame(rows)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="sizes for a test")
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables; on a machine with a GPU only")
    chosen = parser.parse_args(arguments)
    device, began = "cuda" if torch.cuda.is_available() else "cpu", time.perf_counter()
    card = torch.cuda.get_device_name() if device == "cuda" else f"no GPU; {platform.processor() or platform.machine()}"
    tables = [compare(chosen.small, device), stacked(chosen.small, device, (10,) if chosen.small else (10, 100))]
    tables += [two_processes(chosen.small, device), notebooks(device)]
    missing = "not run: it needs two GPUs", "not run: it needs the repository and papermill"
    printed = [table.round(4).to_markdown(index=False) for table in tables[:2]]
    printed += [why if t is None else t.round(4).to_markdown(index=False)
                for t, why in zip(tables[2:], missing, strict=True)]
    words = "\n\n".join([f"{card}, torch {torch.__version__}, {time.perf_counter() - began:.0f} s",
                         *printed])
    print(words)
    losses = tables[0].filter(like="loss, ").to_numpy()
    assert np.isfinite(losses).all(), "a loss is not finite"
    if device != "cpu":  # else the CPU would be compared with itself
        assert np.allclose(losses[:, 0], losses[:, 1], rtol=TOLERANCE), "losses differ"
    if chosen.write and device == "cuda":
        chosen.write.write_text(words + "\n")
    return tables


if __name__ == "__main__":
    main()
