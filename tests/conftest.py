from pathlib import Path

import pandas as pd
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


@pytest.fixture(scope="session")
def board(root) -> pd.DataFrame:
    "The committed entries, read, checked and scored; a matter of half a minute."
    from xyield.benchmark import leaderboard  # here, so that tests without it start sooner

    return leaderboard(root / "leaderboard")
