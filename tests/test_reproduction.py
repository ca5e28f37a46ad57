"""From end to end: Snakemake and papermill on the smoke profile, twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from xyield.command_line import main
from xyield.experiments import execute, notebook_parameters, read_profile, read_tasks

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.timeout(3600)  # the first makes a whole reproduction: four minutes, on a full machine fifteen


def reproduce(root, runs, *more, targets=("all", "search")):
    environment = os.environ | {"XYIELD_RUNS": str(runs), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = [BIN / "snakemake", "--cores", "2", "--config", "profile=smoke", *more, "--", *targets]
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


def test_every_notebook_leaves_what_it_says_and_nothing_else(root, smoke):
    left = [p for folder in ("tables", "figures") for p in (smoke / "smoke" / folder).iterdir()]
    tasks = read_tasks(root / "nbs" / "experiments").values()
    assert {f"{p.parent.name}/{p.name}" for p in left} == {file for task in tasks for file in task.leaves}
    for picture in (p for p in left if p.suffix == ".png"):
        assert picture.stat().st_size > 10_000
    for table in (p for p in left if p.suffix == ".md"):
        assert "`smoke`" in table.read_text()


def test_artefacts_say_how_they_were_made(root, smoke):
    settings = read_profile(root / "profiles" / "smoke.yml", root / "nbs" / "experiments")
    for task in read_tasks(root / "nbs" / "experiments").values():
        given = {name: default for name, (_, default) in notebook_parameters(task.notebook).items()}
        given |= task.given(settings, "smoke")
        for file in (f for f in task.leaves if f.endswith(".json")):
            content = json.loads((smoke / "smoke" / file).read_text())
            assert content["profile"] == "smoke"
            assert {"versions", "commit"} <= content.keys()
            assert content["parameters"] == {n: v for n, v in given.items() if n not in ("profile", "output")}, file


def test_second_run_does_nothing(root, smoke):
    before = {p: p.stat().st_mtime_ns for p in smoke.rglob("*") if p.is_file()}
    result = reproduce(root, smoke)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout + result.stderr
    assert before == {p: p.stat().st_mtime_ns for p in smoke.rglob("*") if p.is_file()}


def test_no_run_is_repeated_when_a_table_is_made_again(root, smoke):
    rows = {p: p.stat().st_mtime_ns for p in smoke.rglob("networks/*.safetensors")}
    assert len(rows) >= 2 * 2 * 4 * 2  # tasks, fractions, methods, momentum or none; one for both repeats
    table = smoke / "smoke" / "tables" / "tab02_few_shot.csv"
    before = table.read_text()
    table.unlink()
    assert reproduce(root, smoke).returncode == 0
    assert table.read_text() == before
    assert rows == {p: p.stat().st_mtime_ns for p in smoke.rglob("networks/*.safetensors")}


def test_a_table_that_was_changed_by_hand_is_set_aside_and_made_again(root, smoke):
    table = smoke / "smoke" / "tables" / "dataset_counts.csv"
    before = table.read_text()
    table.write_text(before.replace("1", "2", 1))
    result = reproduce(root, smoke, targets=["taba13_datasets"])
    assert result.returncode == 0 and "dataset_counts.csv was changed" in result.stderr
    assert table.read_text() == before
    aside = table.with_name(f"{table.name}.damaged")
    assert aside.read_text() != before
    aside.unlink()


def test_same_seed_gives_the_same_table_in_another_place(root, smoke, tmp_path):
    assert reproduce(root, tmp_path, targets=["tab02_few_shot"]).returncode == 0
    tables = [pd.read_csv(runs / "smoke" / "tables" / "tab02_few_shot.csv") for runs in (smoke, tmp_path)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_what_it_cost_is_told(root, smoke, monkeypatch, capsys):
    monkeypatch.setenv("XYIELD_RUNS", str(smoke))
    monkeypatch.chdir(root)
    assert main(["cost", "--profile", "smoke"]) == 0
    left = Path(capsys.readouterr().out.strip())
    table = pd.read_csv(left)
    assert set(table["notebook"]) == set(read_tasks(root / "nbs" / "experiments"))
    assert (table[["wall_minutes", "core_minutes", "peak_mib"]] > 0).all(axis=None)
    assert table["processor"].iloc[0] in left.with_suffix(".md").read_text()
    for ending in (".csv", ".md", ".json"):
        left.with_suffix(ending).unlink()


def test_unknown_profile_is_refused(root, tmp_path):
    result = reproduce(root, tmp_path, "profile=desktop")
    assert result.returncode != 0
    assert "profile is 'desktop'; expected one of laptop, paper, smoke" in result.stdout + result.stderr


def test_failing_notebook_leaves_nothing(root, tmp_path):
    figure = root / "nbs" / "experiments" / "figa05_representation.ipynb"
    with pytest.raises(Exception, match="MoNbNi"):
        execute(figure, tmp_path / "out.ipynb", {"formula": "MoNbNi", "output": str(tmp_path)})
    assert not list(tmp_path.iterdir())
