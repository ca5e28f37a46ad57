"""Peers' rows and estimators in the store: a changed question is computed anew, a damaged answer is never used."""

import importlib
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone

import xyield.estimator
from xyield import store
from xyield.command_line import main
from xyield.estimator import XYieldEstimator
from xyield.experts import FORMAT
from xyield.measurements import measurements
from xyield.peers import peers, run_regressor
from xyield.softening import SofteningGP
from xyield.splits import ColdToHot, FewShot, HeldOutSystems
from xyield.store import Damaged, load_record, save_record

POINTS = measurements()
RIDGE = peers()["ridge | fractions"]
MINE = '''
from sklearn.base import BaseEstimator, RegressorMixin

SCALE = 1.0

def middle(y):
    return sorted(y)[len(y) // 2]

class Mine(RegressorMixin, BaseEstimator):
    "The middle strength."

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y):
        self.level_ = SCALE * middle(y) + self.shift
        return self

    def predict(self, X):
        return [self.level_] * len(X)
'''


def ask(regressor=RIDGE, protocol=None, points=POINTS, seeds=(0,)):
    return run_regressor("asked", regressor, protocol or FewShot(0.05), points, list(seeds))


def records(folder):
    return sorted(folder.rglob("*.safetensors"))


def damage(path, generator):
    "Flip one bit, or cut the file."
    raw = bytearray(path.read_bytes())
    if generator.random() < 0.2:
        raw = raw[: generator.randrange(len(raw))]
    else:
        raw[generator.randrange(len(raw))] ^= 1 << generator.randrange(8)
    path.write_bytes(raw)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    "A function that writes a user's module and gives its class, as a new process would import it."
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(*change):
        (tmp_path / "my_own_model.py").write_text(MINE.replace(*change) if change else MINE)
        sys.modules.pop("my_own_model", None)
        importlib.invalidate_caches()
        return importlib.import_module("my_own_model").Mine

    yield make
    sys.modules.pop("my_own_model", None)


@pytest.mark.parametrize(("old", "new"), [
    ("SCALE * middle(y) + self.shift", "SCALE * max(y) + self.shift"), ("len(y) // 2", "len(y) // 3"),
    ("SCALE = 1.0", "SCALE = 1.1"), ("[self.level_] * len(X)", "[self.level_ + 1] * len(X)"),
])
def test_a_changed_model_of_ones_own_is_fitted_again(runs, mine, old, new):
    assert old in MINE
    first, changed = ask(mine()()), ask(mine(old, new)())
    assert first["prediction"][0][0] != changed["prediction"][0][0]
    assert len(records(runs)) == 2
    assert ask(mine()())["seconds"][0] == first["seconds"][0]  # the first is still known


@pytest.mark.parametrize(("old", "new"), [
    ("The middle strength", "The median"), ("SCALE = 1.0", "SCALE = 1.0  # no unit"), ("\n\nclass", "\n\n\n\nclass"),
])
def test_a_comment_in_a_model_of_ones_own_costs_nothing(runs, mine, old, new):
    first, again = ask(mine()()), ask(mine(old, new)())
    assert first["seconds"][0] == again["seconds"][0] and len(records(runs)) == 1


class FirstRows:
    "A protocol of one's own, which is no data class."

    def __init__(self, n):
        self.n = n

    def split(self, points, seed):
        return np.arange(self.n), np.arange(self.n, len(points))


def test_every_part_of_the_question_is_in_the_key(runs, monkeypatch):
    version = store._package_version
    ask()
    changes = [dict(seeds=[1]), dict(protocol=FewShot(0.10)), dict(protocol=HeldOutSystems()),
               dict(protocol=FirstRows(9)), dict(protocol=FirstRows(10)),
               dict(regressor=peers()["ridge | fractions + sim"]),
               dict(regressor=RIDGE.__class__([*RIDGE.steps[:1], ("ridgecv", RIDGE[-1].__class__([1.0, 2.0]))])),
               dict(points=POINTS.assign(temperature=POINTS["temperature"] + 1)),
               dict(points=POINTS.assign(system=POINTS["system"].str.lower()))]  # a protocol may look at it
    for n, change in enumerate(changes, start=2):
        ask(**change)
        assert len(records(runs)) == n, change
    known = len(changes) + 1
    for n, package in enumerate(("scikit-learn", "lightgbm", "smt", "scipy", "numpy"), start=known + 1):
        with monkeypatch.context() as patch:
            patch.setattr(store, "_package_version",
                          lambda name, changed=package: "9.9" if name == changed else version(name))
            ask()
        assert len(records(runs)) == n, package
    ask()
    assert len(records(runs)) == n


@pytest.mark.parametrize(("module", "old", "new", "again"), [
    ("splits", "random_state=seed", "random_state=seed + 1", True),
    ("alloys", "CELSIUS_ZERO = 273.15", "CELSIUS_ZERO = 273", True),
    ("descriptors", "simulated_sample(2000", "simulated_sample(2001", True),
    ("kernel", "BATCH = 256", "BATCH = 512", False), ("report", "dpi=150", "dpi=151", False),
    ("splits", '"One random split', '"A random split', False), ("peers", "  # raises on °C", "", False),
])
def test_the_code_of_protocol_and_peer_is_in_the_key_and_no_other(runs, monkeypatch, module, old, new, again):
    source = store._source
    ask()
    assert old in source(module)
    edited = {module: source(module).replace(old, new)}
    monkeypatch.setattr(store, "_source", lambda name: edited.get(name) or source(name))
    store.code_version.cache_clear()
    ask()
    store.code_version.cache_clear()
    assert len(records(runs)) == 1 + again


FITS = deque()  # a list would be part of the question, since `fit` refers to it


class Counted(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        FITS.append(len(y))
        self.level_ = np.mean(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.level_)


def test_a_damaged_row_is_named_set_aside_and_computed_again(runs):
    generator, expected = random.Random(0), ask(RIDGE)
    path, = records(runs)
    whole = path.read_bytes()
    for n in range(60):
        damage(path, generator)
        harmless = path.read_bytes() == whole
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = ask(RIDGE)
        np.testing.assert_array_equal(found["prediction"][0], expected["prediction"][0])
        said = [str(w.message) for w in caught if "is damaged" in str(w.message)]
        assert harmless or (len(said) == 1 and path.name in said[0]), n
        assert len(list(runs.rglob("*.damaged*"))) == (not harmless)
        for aside in runs.rglob("*.damaged*"):
            aside.unlink()
        path.write_bytes(whole)


def test_a_failed_row_of_several_leaves_the_others(runs):
    ask(RIDGE, seeds=[0, 1, 2])
    damaged = records(runs)[1]
    times = {p: p.stat().st_mtime_ns for p in records(runs)}
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="is damaged"):
        ask(RIDGE, seeds=[0, 1, 2])
    assert [p for p in records(runs) if p.stat().st_mtime_ns != times[p]] == [damaged]


def test_a_stored_row_is_not_fitted_again(runs):
    for protocol, n in ((FewShot(0.05), 2), (FewShot(0.05), 2), (ColdToHot(), 4)):
        ask(Counted(), protocol, seeds=[0, 1])
        assert len(FITS) == n


# estimators


@pytest.fixture
def quick(monkeypatch):
    "The default estimator with a sampler of four steps, and every eighth measurement for all."
    quick, points = XYieldEstimator(n_steps=4, n_kept=2, n_chains=1), xyield.estimator.all_measurements()
    monkeypatch.setattr(xyield.estimator, "of_all_measurements", lambda: clone(quick))
    monkeypatch.setattr(xyield.estimator, "all_measurements", lambda: points.iloc[::8].reset_index(drop=True))
    return xyield.estimator.default_estimator


def test_a_damaged_default_estimator_is_named_set_aside_and_fitted_again(runs, quick):
    runs.mkdir(exist_ok=True)
    expected, generator = quick().predict(POINTS), random.Random(1)
    path, = records(runs)
    whole = path.read_bytes()
    for _ in range(10):
        damage(path, generator)
        with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
            found = quick()
        np.testing.assert_array_equal(found.predict(POINTS), expected)
        assert load_record(path)["format"] == FORMAT
        path.with_name(f"{path.name}.damaged").unlink()  # it was kept
        path.write_bytes(whole)


def test_a_damaged_file_of_ones_own_is_refused_by_name(tmp_path, capsys):
    few = POINTS.iloc[::20]
    path = SofteningGP(n_steps=4, n_kept=2).fit(few, few["yield_strength"]).save(tmp_path / "mine.safetensors")
    whole, generator = path.read_bytes(), random.Random(2)
    for _ in range(100):
        damage(path, generator)
        with pytest.raises(ValueError, match=r"mine\.safetensors is no estimator that can be used"):
            SofteningGP.load(path)
        path.write_bytes(whole)
    damage(path, generator)
    assert main(["predict", "MoNbTaTi", "--estimator", str(path)]) == 1
    assert "mine.safetensors is no estimator that can be used" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"]  # the user's file stays where it is


@pytest.mark.parametrize(("change", "words"), [
    ({"format": "xyield SofteningGP 9"}, "its format is 'xyield SofteningGP 9'"),
    ({"parameters": {"depth": 3}}, "its parameters are {'depth': 3}; expected"),
    ({"parameters": [3]}, "its parameters are"), ({"samples": np.zeros((2, 3))}, "samples have shape"),
    ({"y": np.zeros(3)}, "strengths and samples have shapes"), ({"X": np.ones((12, 12))}, "expected"),
    ({"X": None}, "expected"), ({"samples": [1.0]}, "expected"), ({"y": "strong"}, "expected"),
])
def test_a_record_of_something_else_is_refused_by_name(tmp_path, change, words):
    few = POINTS.iloc[::20]
    record = SofteningGP(n_steps=4, n_kept=2).fit(few, few["yield_strength"]).as_record()
    save_record(tmp_path / "other.safetensors", record | change)
    with pytest.raises(ValueError, match=words) as caught:
        SofteningGP.load(tmp_path / "other.safetensors")
    assert "other.safetensors" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_of_something_else_is_refused_by_name(tmp_path, content):
    (tmp_path / "other.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.safetensors is no estimator"):
        SofteningGP.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is no estimator"):
        SofteningGP.load(tmp_path)


def test_a_prediction_is_given_where_nothing_can_be_written(runs, quick, capsys):
    runs.mkdir(exist_ok=True)
    assert main(["predict", "MoNbTaTi"]) == 0
    expected = capsys.readouterr().out
    path, = records(runs)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("a file where the folder should be")
    assert main(["predict", "MoNbTaTi"]) == 0
    found = capsys.readouterr()
    assert found.out == expected and "cannot be kept" in found.err


def test_a_damaged_estimator_that_cannot_be_set_aside_does_not_stop_a_prediction(runs, quick, monkeypatch, capsys):
    runs.mkdir(exist_ok=True)
    expected = quick().predict(POINTS)
    path, = records(runs)
    path.write_bytes(path.read_bytes()[:-1])

    def refuse(*_):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(store.os, "replace", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(quick().predict(POINTS), expected)
    said = " ".join(str(w.message) for w in caught)
    assert "cannot be set aside" in said and "cannot be kept" in said


def test_a_prediction_is_given_when_the_disk_is_full(runs, tmp_path):
    runs.mkdir(exist_ok=True)
    limit = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
             "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
             "import xyield.estimator as e; S = e.XYieldEstimator; "
             "e.of_all_measurements = lambda: S(n_steps=4, n_kept=2, n_chains=1); "
             "from xyield.command_line import main; sys.exit(main(['predict', 'MoNbTaTi']))")
    found = subprocess.run([sys.executable, "-c", limit], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert found.returncode == 0, found.stderr
    assert "MoNbTaTi" in found.stdout and "cannot be kept" in found.stderr
    assert not records(runs)


def test_load_record_says_what_it_expected(tmp_path):
    save_record(tmp_path / "a", {"x": np.arange(3)}, {"kind": "one"})
    with pytest.raises(Damaged, match="its kind is 'one'; expected 'two'"):
        load_record(tmp_path / "a", {"kind": "two"})


def test_damaged_machine_code_is_named_and_compiled_again(root, tmp_path):
    "What numba keeps beside the modules; all of it cut, as by a machine that lost its power."
    shutil.copytree(root / "xyield", tmp_path / "xyield", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"PYTHONPATH": str(tmp_path)}
    ask = [sys.executable, "-c", "from xyield.survey import percentages; print(percentages(range(9)))"]

    def answer():
        return subprocess.run(ask, cwd=tmp_path, env=environment, capture_output=True, text=True)

    first, kept = answer(), sorted((tmp_path / "xyield" / "__pycache__").glob("*.nb[ic]"))
    assert first.returncode == 0 and {p.suffix for p in kept} == {".nbi", ".nbc"}
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = answer()
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert all(f"{path} is damaged" in again.stderr for path in kept)
    assert answer().stderr == first.stderr
