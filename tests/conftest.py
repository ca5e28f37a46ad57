from pathlib import Path

import pytest

from xyield.store import project_root


@pytest.fixture(scope="session")
def root() -> Path:
    return project_root(Path(__file__).parent)


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    "An empty store for runs and checkpoints."
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path))
    return tmp_path
