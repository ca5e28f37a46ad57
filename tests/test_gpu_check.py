"""The check of a GPU runs everywhere: where there is none, its CPU half."""

import pandas as pd
import pytest
import torch

from tests.gpu_check import main, record
from xyield import training
from xyield.store import closure, code_version


@pytest.mark.slow
def test_every_stage_is_there_and_losses_agree_where_there_is_a_gpu(tmp_path):
    found = main(["--small", "--output", str(tmp_path)])
    assert found["losses"].groupby("world").size().to_dict() == {"alloys": 3, "images": 3}
    assert (found["steps"].filter(like=", ms") > 0).all(axis=None) and len(found["steps"]) == 9
    if not torch.cuda.is_available():  # two processes on one CPU share each batch, and learn the same
        assert found["processes"]["last loss"].std() < 0.02 * found["processes"]["last loss"].mean()
    assert (found["notebooks"]["seconds"] > 0).all() and found["notebooks"]["notebook"].nunique() == 3
    assert (tmp_path / "gpu.md").is_file() == torch.cuda.is_available()


def test_what_is_kept_is_what_was_found(tmp_path):
    found = {"steps": pd.DataFrame({"step": ["source"], "CPU, ms": [2.446], "GPU, ms": [0.2128]}), "processes": None}
    parts = {"processes": ("Two processes", None, "Not run: it needs two GPUs.")}
    record(found, parts, "A card; a processor", 9, tmp_path)
    kept = pd.read_csv(tmp_path / "gpu.csv").set_index("column")["value"]
    assert kept.to_dict() == {"step": "source", "CPU, ms": "2.446", "GPU, ms": "0.2128"}
    text = (tmp_path / "gpu.md").read_text()
    assert "| source | 2.446     | 0.2128    |" in text and "Not run: it needs two GPUs." in text and "A card" in text
    assert '"card": "A card"' in (tmp_path / "gpu.json").read_text()


def test_what_runs_on_a_gpu_only_is_in_the_key_of_its_results_and_of_no_others(monkeypatch):
    assert "gpu" in closure("training", device="cuda") and "gpu" not in closure("training")
    on_cpu = training.Hardware("cpu").determines()
    monkeypatch.setattr(training, "resolve_device", torch.device)
    on_gpu = training.Hardware("cuda").determines()
    assert on_gpu == on_cpu | {"device": "cuda", "code": code_version("training", device="cuda")}
