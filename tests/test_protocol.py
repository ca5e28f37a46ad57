"Settings: chosen by a search that gave every method as much, and frozen before the splits that they are tested on."

import io
import json
import subprocess

import pandas as pd
import pytest

from xyield.protocol import CELLS, FROZEN, METHODS, fresh_splits, frozen

SETTINGS = pd.read_csv(FROZEN)
CLEAN = [cell for cell in CELLS if cell in set(SETTINGS["cell"])]


@pytest.mark.parametrize("cell", CLEAN)
def test_every_method_had_as_many_candidates(root, cell):
    tried = pd.read_csv(root / "tables" / f"search_{cell}.csv")
    assert set(tried["method"]) == set(METHODS)
    counts = tried.groupby(["method", "step"]).size().unstack()
    assert (counts == counts.iloc[0]).all().all()


def git(root, *words):
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)


@pytest.mark.parametrize("cell", CLEAN)
def test_settings_are_those_of_the_best_candidates_of_the_search_that_was_there_when_they_were_frozen(root, cell):
    froze = git(root, "log", "-1", "--format=%H", "--", f"xyield/{FROZEN.name}").stdout.strip()
    shown = git(root, "show", f"{froze}:tables/search_{cell}.csv")
    if not froze or shown.returncode:
        pytest.skip("the history does not reach back to the freezing")
    for method, tried in pd.read_csv(io.StringIO(shown.stdout)).groupby("method"):
        means = tried["mean"] if CELLS[cell].task == "classification" else -tried["mean"]
        best = tried.loc[means.idxmax()]
        assert frozen(cell, method) == {name: best[name] for name in CELLS[cell].box.sides(method)}, method


@pytest.mark.parametrize("cell", CLEAN)
@pytest.mark.parametrize("method", METHODS)
def test_the_search_of_today_finds_nothing_better_beyond_the_interval(root, cell, method):
    "The last digit decides which of many equal candidates wins; another processor rounds otherwise."
    tried = pd.read_csv(root / "tables" / f"search_{cell}.csv").query("method == @method")
    best = tried["mean"].max() if CELLS[cell].task == "classification" else tried["mean"].min()
    then = SETTINGS.query("cell == @cell and method == @method").iloc[0]
    assert abs(best - then["mean"]) < then["ci95"]


@pytest.mark.parametrize("cell", CLEAN)
def test_settings_were_frozen_before_the_clean_table_was_made(root, cell):
    sidecar = root / "tables" / f"clean_{cell}.json"
    if not sidecar.exists():
        pytest.skip("there is no such table yet")
    commit = json.loads(sidecar.read_text())["commit"]
    shown = git(root, "show", f"{commit}:xyield/{FROZEN.name}")
    if shown.returncode:
        pytest.skip(f"the history does not reach back to {commit[:7]}")
    then = pd.read_csv(io.StringIO(shown.stdout)).query("cell == @cell")
    today = SETTINGS.query("cell == @cell")
    pd.testing.assert_frame_equal(then.reset_index(drop=True), today.reset_index(drop=True))


def test_no_list_of_seeds_reaches_into_the_clean_splits(root):
    fresh = {seed for cell in CLEAN if fresh_splits(cell).per_round == 1 for seed in fresh_splits(cell).seeds}
    assert min(fresh) == 1000
    for sidecar in (root / "tables").glob("*.json"):
        given = json.loads(sidecar.read_text())["parameters"]
        lists = [value for name, value in given.items() if name.endswith("seeds") and isinstance(value, list)]
        used = {seed for seeds in lists for seed in seeds}
        assert not used & fresh, sidecar.name


def test_what_was_not_searched_has_no_settings():
    with pytest.raises(ValueError, match="no settings for 'mix_training' in 'regression_10'"):
        frozen("regression_10", "mix_training")
