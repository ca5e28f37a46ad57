"""The check of a GPU runs everywhere: where there is none, its CPU half."""

import pytest
import torch

from tests.gpu_check import main


@pytest.mark.slow
def test_every_stage_is_there_and_losses_agree_where_there_is_a_gpu(tmp_path):
    stages, stacked, processes, notebooks = main(["--small", "--write", str(tmp_path / "gpu.md")])
    assert stages.groupby("world").size().to_dict() == {"alloys": 3, "images": 3}
    assert (stages.filter(like="steps/s") > 0).all(axis=None) and len(stacked) == 2
    if not torch.cuda.is_available():  # two processes on one CPU share each batch, and learn the same
        assert processes["last loss"].std() < 0.02 * processes["last loss"].mean()
    assert (notebooks["seconds"] > 0).all() and len(notebooks) == 3
    assert (tmp_path / "gpu.md").is_file() == torch.cuda.is_available()
