"""The benchmark: its split file, its refusals, its scores by other means, its entries, its template."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest
import yaml
from scipy import integrate, stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge

from xyield import benchmark
from xyield.benchmark import (
    CHECKSUMS,
    KINDS,
    QUESTIONS,
    SHARED,
    VERSION,
    TrainingMean,
    check_predictions,
    entry_schema,
    evaluate,
    leaderboard,
    load_splits,
    read_entry,
    read_predictions,
    score,
    split_table,
    write_entry,
    write_splits,
)
from xyield.command_line import main
from xyield.measurements import measurements

ROOT = Path(__file__).parents[1]
BOARD = ROOT / "leaderboard"
ENTRIES = sorted(BOARD.glob("*.yml"))
TRUTH = measurements()["yield_strength"].to_numpy()
ASKED = load_splits().query("part == 'test'").drop(columns="part").reset_index(drop=True)
SMALL = ASKED[ASKED["task"] == "cold_to_hot"].reset_index(drop=True)


def answer(asked=SMALL, seed=0):
    "Predictions with errors that a generator makes up."
    generator = np.random.default_rng(seed)
    mean = TRUTH[asked["point"]] + generator.normal(0, 0.2, len(asked))
    return asked.assign(mean=mean, std=generator.uniform(0.1, 0.3, len(asked)))


# ---------------------------------------------------------------- the split file
def test_split_files_are_what_the_protocols_make(tmp_path):
    made = split_table()
    for name in CHECKSUMS:
        pd.testing.assert_frame_equal(load_splits(SHARED / name), made, check_dtype=False)
    paths = write_splits(tmp_path)
    assert paths[0].read_bytes() == (SHARED / paths[0].name).read_bytes()


@pytest.mark.parametrize("name", CHECKSUMS)
def test_a_changed_split_file_is_refused_by_name(tmp_path, name):
    raw = bytearray((SHARED / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=rf"{name} is not {VERSION}, or was changed"):
        load_splits(tmp_path / name)


# ---------------------------------------------------------------- refusals, in all three ways in
REFUSED = {
    "a missing point": (lambda t: t.drop(index=100), "1 of 850 points are missing, the first is cold_to_hot, s"),
    "a missing split": (lambda t: t[t["split"] != 1003], "85 of 850 points are missing"),
    "a duplicate": (lambda t: pd.concat([t, t.iloc[[5]]]), "row 850 is a duplicate"),
    "NaN": (lambda t: t.assign(mean=t["mean"].where(t.index != 7)), "row 7: mean is nan"),
    "infinity": (lambda t: t.assign(mean=t["mean"].where(t.index != 7, np.inf)), "row 7: mean is inf"),
    "MPa": (lambda t: t.assign(mean=1000 * t["mean"].abs(), std=1000 * t["std"]), "if it is in MPa, divide by 1000"),
    "MPa in std only": (lambda t: t.assign(std=1000 * t["std"]), "row 0: std is"),
    "std of zero": (lambda t: t.assign(std=t["std"].where(t.index != 9, 0.0)), "row 9: std is 0.0"),
    "std below zero": (lambda t: t.assign(std=t["std"].where(t.index != 9, -0.1)), "row 9: std is -0.1"),
    "a std that is missing": (lambda t: t.assign(std=t["std"].where(t.index != 9)), "row 9: std is nan"),
    "an unknown task": (lambda t: t.assign(task="cold_to_cold"), "row 0: task is 'cold_to_cold'"),
    "an unknown point": (lambda t: t.assign(point=t["point"].where(t.index != 3, 238)), "row 3: cold_to_hot, split"),
    "an unknown split": (lambda t: t.assign(split=t["split"] + 1), "split 1010, point"),
    "half a point": (lambda t: t.assign(point=t["point"] + 0.5), "row 0: point is"),
    "text": (lambda t: t.assign(mean="strong"), "row 0: mean is 'strong'"),
    "yes or no": (lambda t: t.assign(mean=t["mean"] > 1), "row 0: mean is "),
    "no mean": (lambda t: t.drop(columns="mean"), "expected task, split, point, mean"),
    "a strange column": (lambda t: t.assign(sigma=1.0), "columns task, split, point, mean, std, sigma"),
    "nothing": (lambda t: t[:0], "0 rows"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_on_every_way_in(tmp_path, capsys, what):
    change, words = REFUSED[what]
    table = change(answer())
    with pytest.raises(ValueError) as caught:
        check_predictions(table)
    assert words in str(caught.value)
    table.to_csv(tmp_path / "mine.csv", index=False)
    assert main(["score", str(tmp_path / "mine.csv")]) == 1  # the command line
    said = capsys.readouterr().err
    assert said.startswith("xyield score: mine.csv: ") and words in said
    (tmp_path / "predictions").mkdir()
    shutil.move(tmp_path / "mine.csv", tmp_path / "predictions" / "mine.csv")
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(entry_text() | {"predictions": "mine.csv"}))
    with pytest.raises(ValueError) as caught:  # an entry
        leaderboard(tmp_path)
    assert str(caught.value).startswith("mine.yml: mine.csv: ") and words in str(caught.value)


def entry_text():
    return {"title": "Mine", "kind": "guest", "authors": ["A. Reader"], "date": "2026-11-25", "code": "https://example.org",
            "description": "A method of mine.", "budget": "none", "simulator": False, "hardware": "a laptop",
            "predictions": "mine.csv", "splits": VERSION, "splits_sha256": CHECKSUMS[f"{VERSION}.csv"]}


@pytest.mark.parametrize(("change", "words"), [
    ({"splits_sha256": "a" * 64}, "splits_sha256 is"),
    ({"splits": "xyield-splits-0.9"}, "splits is 'xyield-splits-0.9'"),
    ({"kind": "best"}, "kind is 'best'"), ({"authors": []}, "authors is []"), ({"mse": 0.01}, "mse is 0.01"),
    ({"date": "soon"}, "date is 'soon'"), ({"date": "2126-11-25"}, "expected a day that has been"),
    ({"simulator": "maybe"}, "simulator is 'maybe'"),
    ({"predictions": "../mine.csv"}, "predictions is '../mine.csv'"), ({"predictions": "my.pkl"}, "is 'my.pkl'"),
    ({"budget": None}, "budget is None"),
])
def test_an_entry_that_is_not_right_is_refused_by_name(tmp_path, change, words):
    (tmp_path / "predictions").mkdir()
    answer().to_csv(tmp_path / "predictions" / "mine.csv", index=False)
    path = tmp_path / "mine.yml"
    path.write_text(yaml.safe_dump(entry_text()))
    assert read_entry(path)[0].title == "Mine"
    path.write_text(yaml.safe_dump(entry_text() | change))
    with pytest.raises(ValueError) as caught:
        read_entry(path)
    assert str(caught.value).startswith("mine.yml: ") and words in str(caught.value)


# ---------------------------------------------------------------- scores, by other means
def test_scores_are_what_the_definitions_say():
    table = answer(ASKED)
    found = score(table).set_index("task")
    for task, group in table.groupby("task"):
        y, mean, std = TRUTH[group["point"]], group["mean"].to_numpy(), group["std"].to_numpy()
        row = found.loc[task]
        assert row["mse"] == pytest.approx(np.mean((y - mean) ** 2))
        assert row["mae"] == pytest.approx(np.mean(np.abs(y - mean)))
        assert row["nll"] == pytest.approx(-stats.norm(mean, std).logpdf(y).mean())
        for level in (50, 80, 95):
            low, high = stats.norm(mean, std).interval(level / 100)
            assert row[f"cover{level}"] == pytest.approx(np.mean((low <= y) & (y <= high)))
    one = table[table["task"] == "few_shot_11"].groupby("split")
    ranks = [stats.pearsonr(g["mean"].rank(), pd.Series(TRUTH[g["point"]]).rank())[0] for _, g in one]
    assert found.loc["few_shot_11", "spearman"] == pytest.approx(np.mean(ranks))


def test_crps_is_its_integral():
    for measured, mean, std in ((1.0, 0.7, 0.2), (0.3, 0.7, 0.05), (0.7, 0.7, 1.0)):
        def squared(x, measured=measured, mean=mean, std=std):
            return (stats.norm.cdf(x, mean, std) - (x >= measured)) ** 2
        integral = sum(integrate.quad(squared, a, b, limit=200)[0] for a, b in ((-9, measured), (measured, 9)))
        found = benchmark.point_scores(np.array([measured]), np.array([mean]), np.array([std]))["crps"][0]
        assert found == pytest.approx(integral, rel=1e-5)


def test_a_difference_is_paired_and_its_interval_is_of_splits():
    one, other = answer(seed=1), answer(seed=2)
    row = score(one, other).iloc[0]
    y = TRUTH[SMALL["point"]]
    by_split = ((y - one["mean"]) ** 2 - (y - other["mean"]) ** 2).groupby(SMALL["split"]).mean()  # splits of one size
    assert row["mse_minus"] == pytest.approx(by_split.mean())
    half = stats.t.ppf(0.975, len(by_split) - 1) * by_split.std(ddof=1) / len(by_split) ** 0.5
    assert row["mse_minus_ci95"] == pytest.approx(half)
    assert score(one, one).iloc[0]["mse_minus"] == 0


def test_the_order_of_rows_and_the_format_make_no_difference(tmp_path):
    table = answer()
    shuffled = table.sample(frac=1, random_state=0)
    for ending in ("csv", "csv.gz", "parquet"):
        path = tmp_path / f"mine.{ending}"
        shuffled.to_parquet(path) if ending == "parquet" else shuffled.to_csv(path, index=False)
        pd.testing.assert_frame_equal(score(read_predictions(path)), score(table))


# ---------------------------------------------------------------- regressors
class Fails(RegressorMixin, BaseEstimator):
    "Fails where the training strengths have a mean beyond a level."

    def __init__(self, level=1.0, how="raise"):
        self.level, self.how = level, how

    def fit(self, X, y):
        self.bad_ = np.mean(y) > self.level
        if self.bad_ and self.how == "raise":
            raise ArithmeticError("no")
        return self

    def predict(self, X):
        return np.full(len(X), {"nan": np.nan, "large": 1e3}.get(self.how, 1.0) if self.bad_ else 1.0)


@pytest.mark.parametrize("how", ["raise", "nan", "large"])
def test_failed_splits_count(runs, how):
    task = "few_shot_11"
    with pytest.warns(RuntimeWarning, match="splits failed and are predicted by the mean"):
        found = evaluate(Fails(0.95, how), task)
    lost = {int(name.split("/")[1]) for name in found.failed}
    assert 0 < len(lost) < 30
    constant = evaluate(TrainingMean(), task).predictions
    mine = found.predictions["split"].isin(lost)
    np.testing.assert_allclose(found.predictions.loc[mine, "mean"], constant.loc[mine, "mean"])
    assert (found.predictions.loc[~mine, "mean"] == 1.0).all()
    assert found.scores["n_predictions"][0] == (ASKED["task"] == task).sum()


def test_a_changed_fit_gives_a_new_score(runs):
    text = ("from sklearn.linear_model import Ridge\nclass Mine(Ridge):\n    def fit(self, X, y):\n"
            "        return super().fit(X, y)\n")

    def scored(source):
        exec(source, space := {"__name__": "__main__"})
        return evaluate(space["Mine"](), "cold_to_hot").scores["mse"][0]

    first = scored(text)
    assert scored(text.replace("fit(X, y)\n", "fit(X, y)  # as it was\n")) == first
    assert scored(text.replace("super().fit(X, y)", "super().fit(X, 1.1 * y)")) != first


def test_all_three_ways_in_give_the_same_number(runs, tmp_path, capsys):
    found = evaluate(Ridge(0.1), ["cold_to_hot", "few_shot_11"], simulator=True)
    path = write_entry(tmp_path, "mine", found, **{k: v for k, v in entry_text().items()
                                                   if k not in ("predictions", "splits", "splits_sha256")})
    board = leaderboard(tmp_path).set_index("task")["mse"]
    found.predictions.to_csv(tmp_path / "mine.csv", index=False)
    for file in (path, tmp_path / "mine.csv"):
        assert main(["score", str(file)]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mse "))
        printed = [float(v) for v in line.split()[1:]]
        np.testing.assert_allclose(printed, found.scores["mse"], atol=1e-4)
    np.testing.assert_allclose(board[found.scores["task"]], found.scores["mse"], rtol=1e-4)


# ---------------------------------------------------------------- what is committed
def test_the_schema_is_that_of_the_entries():
    assert json.loads((BOARD / "schema.json").read_text()) == json.loads(json.dumps(entry_schema()))


def test_there_are_entries_and_all_of_them_are_right(board):
    assert set(board["name"]) == {path.stem for path in ENTRIES} and len(ENTRIES) > 5
    assert set(board["kind"]) <= set(KINDS) and set(board["task"]) == set(QUESTIONS)
    orphans = {p.name for p in (BOARD / "predictions").iterdir()} - set(board["predictions"])
    assert not orphans
    for code in board["code"].unique():
        assert "://" in code or (ROOT / code).is_file()


def test_committed_baselines_are_what_they_say():
    "Two entries that can be computed in a line; the others would take their methods."
    splits = load_splits()
    for task, group in read_entry(BOARD / "constant.yml")[1].groupby("task"):
        train = splits[(splits["task"] == task) & (splits["part"] == "train")]
        if len(train):
            expected = train.assign(y=TRUTH[train["point"]]).groupby("split")["y"].mean()
            np.testing.assert_allclose(group["mean"], expected[group["split"]], atol=2e-6)
    simulated = read_entry(BOARD / "simulator.yml")[1].query("task == 'cross_quality'")
    assert np.mean((simulated["mean"] - TRUTH[simulated["point"]]) ** 2) == pytest.approx(0.148, abs=1e-3)


def test_the_table_has_the_scores_of_the_entries(board):
    committed = pd.read_csv(ROOT / "tables" / "leaderboard.csv")
    both = board.merge(committed, on=["task", "name"], suffixes=("", "_committed"))
    assert len(both) == len(committed)
    for name in ("mse", "spearman", "crps", "mse_minus"):
        np.testing.assert_allclose(both[name], both[f"{name}_committed"], rtol=1e-6, atol=1e-9)


def _run_template(folder, **parameters):
    shutil.copy(BOARD / "template" / "enter.ipynb", folder / "enter.ipynb")
    parameters |= {"output": str(folder / "board")}
    papermill.execute_notebook(folder / "enter.ipynb", folder / "out.ipynb", parameters, kernel_name="python3",
                               progress_bar=False, cwd=folder)
    return leaderboard(folder / "board")


def test_the_template_makes_an_entry(runs, tmp_path):
    (tmp_path / "board").mkdir()
    table = _run_template(tmp_path, tasks=["cold_to_hot"])
    assert table["name"].tolist() == ["my-forest"] and table["mse"][0] < 0.2


@pytest.mark.slow
def test_the_template_enters_all_tasks_in_under_five_minutes_away_from_the_checkout(elsewhere, tmp_path):
    _, environment = elsewhere
    shutil.copy(BOARD / "template" / "enter.ipynb", tmp_path)
    began = time.monotonic()
    run = [sys.executable, "-m", "papermill", "--no-progress-bar", "-k", "python3", "enter.ipynb", "done.ipynb"]
    subprocess.run(run, cwd=tmp_path, env=environment, check=True)
    assert time.monotonic() - began < 300
    assert set(leaderboard(tmp_path / "my-entry")["task"]) == set(QUESTIONS)
    where = [sys.executable, "-c", "import xyield; print(xyield.__file__)"]
    used = subprocess.run(where, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert used.startswith(environment["PYTHONPATH"])


def test_scoring_does_not_import_torch():
    code = "import sys, xyield.benchmark; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
