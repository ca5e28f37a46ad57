import gc
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from xyield.store import project_root

# pytest's workers share the files: a file's tests stay together, and so do those that run Snakemake in this checkout.
# What takes longest begins first; all others follow as they are found
TOGETHER = dict.fromkeys(["test_reproduction", "test_killed", "test_cluster", "test_full_disk"], "snakemake")
FIRST = ["snakemake", "test_site", "test_tutorials", "test_storage", "test_benchmark"]


def group(nodeid: str) -> str:
    file = Path(nodeid.partition("::")[0]).stem
    return TOGETHER.get(file, file)


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(group(item.nodeid), len(FIRST)))


def pytest_collection_finish():
    gc.freeze()  # a million objects of the libraries, which stay: not looked through again and again


def pytest_unconfigure():
    gc.unfreeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # of xdist's own marks, today's pytest takes no notice
        def _split_scope(self, nodeid):
            return group(nodeid)

    return Groups(config, log)


@pytest.fixture(scope="session")
def root() -> Path:
    return project_root(Path(__file__).parent)


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    "An empty store for runs and checkpoints."
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def elsewhere(root, tmp_path_factory) -> tuple[Path, dict]:
    "An empty folder, and an environment whose package is an unpacked wheel: nothing of this checkout."
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, folder)
    shutil.copytree(root / "xyield", folder / "xyield", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", "built", "."]
    subprocess.run(build, cwd=folder, check=True)
    zipfile.ZipFile(next(folder.glob("built/*.whl"))).extractall(folder / "site")
    (folder / "home").mkdir()
    clean = {k: v for k, v in os.environ.items() if k not in ("XYIELD_RUNS", "PYTHONPATH")}
    return folder / "home", clean | {"HOME": str(folder / "home"), "PYTHONPATH": str(folder / "site")}


@pytest.fixture(scope="session")
def board(root) -> pd.DataFrame:
    "The committed entries, read, checked and scored; a matter of ten seconds."
    from xyield.benchmark import leaderboard  # here, so that tests without it start sooner

    return leaderboard(root / "leaderboard")
