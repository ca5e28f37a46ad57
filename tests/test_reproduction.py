"""From end to end: Snakemake and papermill on the smoke profile, twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from xyield.experiments import execute

BIN = Path(sys.executable).parent


def reproduce(root, runs, *more):
    environment = os.environ | {"XYIELD_RUNS": str(runs), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = [BIN / "snakemake", "--cores", "2", "--nolock", "--rerun-incomplete", "--config", "profile=smoke", *more]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def smoke(root, tmp_path_factory):
    "The folder that one run of the smoke profile leaves."
    runs = tmp_path_factory.mktemp("runs")
    result = reproduce(root, runs)
    assert result.returncode == 0, result.stderr[-4000:]
    return runs


def test_table2_is_complete(smoke):
    table = pd.read_csv(smoke / "smoke" / "tables" / "tab02_few_shot.csv")
    assert list(table) == ["task", "fraction", "method", "metric", "selection", "ours_mean", "ours_ci95", "paper_mean",
                           "paper_ci95", "gain_mean", "gain_ci95", "n_repeats"]
    assert table.groupby("selection").size().to_dict() == {"best": 16, "last": 16}
    assert table["n_repeats"].eq(2).all()
    assert table.drop(columns=["paper_mean", "paper_ci95"]).notna().all(axis=None)
    assert table["paper_mean"].isna().equals(table["method"] == "handtune")  # the paper has it for images only
    best, last = (table[table["selection"] == s].reset_index() for s in ("best", "last"))
    assert (best["ours_mean"] <= last["ours_mean"])[best["metric"] == "mse"].all()
    assert (best["ours_mean"] >= last["ours_mean"])[best["metric"] == "accuracy"].all()


def test_artefacts_say_where_they_come_from(smoke):
    sidecars = list((smoke / "smoke").glob("*/*.json"))
    assert {s.stem for s in sidecars} == {
        "tab02_few_shot", "tab02_momentum", "tab03_cross_validation", "tab04_alloys", "birpt_search", "taba09_masks",
        "taba10_gamma", "taba11_mask_rate", "taba12_ensembles", "ensemble_coverage", "ensemble_calibration",
        "handtune_grid", "handtune_control", "model_width", "fig03_temperature", "figa04_layers",
        "figa05_representation", "fig02_distributions", "taba13_datasets", "screening", "playground",
        "tabe1_peers", "tabe2_hard_splits", "tabe3_ablation", "fige1_learning_curves",
        "tab01_images", "taba05_images", "taba06_images", "taba07_images", "taba08_images", "taba09_images",
        "taba10_images", "taba11_images", "figa04_images", "images_search", "image_hours"}
    for sidecar in sidecars:
        content = json.loads(sidecar.read_text())
        assert content["profile"] == "smoke"
        assert {"parameters", "versions", "commit"} <= content.keys()
        twin = sidecar.with_suffix(".md")
        assert "`smoke`" in twin.read_text() if twin.exists() else sidecar.with_suffix(".png").stat().st_size > 10_000


def test_second_run_does_nothing(root, smoke):
    before = {p: p.stat().st_mtime_ns for p in smoke.rglob("*") if p.is_file()}
    result = reproduce(root, smoke)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout + result.stderr
    assert before == {p: p.stat().st_mtime_ns for p in smoke.rglob("*") if p.is_file()}


def test_no_run_is_repeated_when_a_table_is_made_again(root, smoke):
    rows = {p: p.stat().st_mtime_ns for p in smoke.rglob("rows/*.json")}
    assert len(rows) >= 2 * 2 * 4 * 2  # tasks, fractions, methods, with and without momentum; a file for both repeats
    table = smoke / "smoke" / "tables" / "tab02_few_shot.csv"
    before = table.read_text()
    table.unlink()
    assert reproduce(root, smoke).returncode == 0
    assert table.read_text() == before
    assert rows == {p: p.stat().st_mtime_ns for p in smoke.rglob("rows/*.json")}


def test_same_seed_gives_the_same_table_in_another_place(root, smoke, tmp_path):
    assert reproduce(root, tmp_path, "--until", "tab02").returncode == 0
    tables = [pd.read_csv(runs / "smoke" / "tables" / "tab02_few_shot.csv") for runs in (smoke, tmp_path)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_unknown_profile_is_refused(root, tmp_path):
    result = reproduce(root, tmp_path, "profile=desktop")
    assert result.returncode != 0
    assert "profile is 'desktop'; expected one of laptop, paper, smoke" in result.stdout + result.stderr


def test_failing_notebook_leaves_nothing(root, tmp_path):
    figure = root / "nbs" / "experiments" / "figa05_representation.ipynb"
    with pytest.raises(Exception, match="MoNbNi"):
        execute(figure, tmp_path / "out.ipynb", {"formula": "MoNbNi", "output": str(tmp_path)})
    assert not list(tmp_path.iterdir())
