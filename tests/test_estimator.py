"""The estimator from outside: what it refuses, what it keeps, what the command line says."""

import shutil
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import xyield.estimator as estimator
import xyield.experts as experts
from xyield import store
from xyield.alloys import PALETTE, as_inputs
from xyield.command_line import main
from xyield.estimator import XYieldEstimator, publications
from xyield.experts import TwoExperts
from xyield.measurements import measurements
from xyield.peers import peers, run_regressor, scores
from xyield.phases import WithSeveralPhases, all_measurements, second_source
from xyield.simulator import yield_strength
from xyield.softening import SofteningGP
from xyield.splits import BENCHMARK, FewShot, HeldOutSystems

POINTS, ALL = measurements(), all_measurements()


@pytest.fixture(scope="module")
def model():
    known = POINTS.iloc[::8]
    return XYieldEstimator(n_steps=40, n_kept=4, n_chains=1).fit(known, known["yield_strength"])


def test_formulas_fractions_and_arrays_are_the_same_alloys(model):
    alloys = pd.DataFrame({"formula": ["MoNbTaTi", "HfNbTaTiZr"], "temperature": [300.0, 1273.15]})
    fractions = pd.DataFrame(0.0, index=[0, 1], columns=list(PALETTE)).assign(temperature=alloys["temperature"])
    fractions.loc[0, ["Mo", "Nb", "Ta", "Ti"]] = 0.25
    fractions.loc[1, ["Hf", "Nb", "Ta", "Ti", "Zr"]] = 0.2
    expected = model.predict(alloys)
    np.testing.assert_allclose(model.predict(fractions), expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict(fractions.to_numpy()), expected, rtol=1e-9)


def test_saved_model_is_the_same(model, tmp_path):
    again = XYieldEstimator.load(model.save(tmp_path / "model.safetensors"))
    found, expected = (m.predict(POINTS, return_std=True) for m in (again, model))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert again.get_params() == model.get_params()


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (POINTS[["formula"]], POINTS["yield_strength"], "expected temperature, and formula"),
        (POINTS.assign(temperature=25.0), POINTS["yield_strength"], "if it is in °C"),
        (POINTS, POINTS["yield_strength"].where(POINTS.index > 0), "yield strength is nan"),
        (POINTS, POINTS["yield_strength"] * 1000, "if it is in MPa"),
        (POINTS, POINTS["yield_strength"] > 1, "expected a number"),
        (POINTS, POINTS["yield_strength"][:5], "expected 238 strengths"),
        (np.ones((4, 3)), np.ones(4), r"expected \[n, 12\]"),
        (as_inputs(POINTS) + 0j, POINTS["yield_strength"], "Complex data not supported"),
        (POINTS, None, "requires y to be passed, but the target y is None"),
        (POINTS, -POINTS["yield_strength"], "expected GPa between 0 and 10"),
        (POINTS, POINTS["yield_strength"].astype(str), "expected a number"),
        (POINTS.astype({"Mo": str}), POINTS["yield_strength"], "fraction of Mo is '0.*'; expected a number"),
        (POINTS.assign(formula="AlW"), POINTS["yield_strength"], "formula is 'AlW' where the fractions say"),
    ],
)
def test_what_is_no_alloy_is_refused(X, y, message):
    for model in (SofteningGP(n_steps=10, n_kept=2), XYieldEstimator(n_steps=10, n_kept=2)):
        with pytest.raises(ValueError, match=message):
            model.fit(X, y)


@pytest.mark.parametrize(("settings", "message"), [
    ({"n_steps": 0}, "n_steps is 0"), ({"n_kept": 0}, "n_kept is 0"), ({"n_chains": True}, "n_chains is True"),
    ({"seed": -1}, "seed is -1"), ({"without": None}, "without is None"),
    ({"without": [["elements"]]}, "not both experts"), ({"without": ("physics",)}, "expected some of descriptors"),
    ({"without": "elements"}, "expected some of"), ({"without": ("descriptors", "elements")}, "not both experts")])
def test_settings_that_are_none_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        XYieldEstimator(**settings).fit(POINTS, POINTS["yield_strength"])


def test_an_expert_alone_is_a_part_of_the_mixture():
    known = POINTS.iloc[::8]
    both, *alone = (TwoExperts(n_steps=40, n_kept=4, n_chains=1, without=out).fit(known, known["yield_strength"])
                    for out in ((), ("elements",), ("descriptors",)))
    a, b = (model.predict(POINTS) for model in alone)
    mixed = both.predict(POINTS)
    assert (mixed >= np.minimum(a, b) - 1e-9).all() and (mixed <= np.maximum(a, b) + 1e-9).all()
    assert not np.allclose(a, b)


@pytest.mark.parametrize("slip", [{"n_kept": 0}, {"n_steps": 0}])
def test_a_sampler_that_takes_no_step_is_refused(slip):
    with pytest.raises(ValueError, match=f"{next(iter(slip))} is 0; expected a whole number"):
        SofteningGP(**slip).fit(POINTS, POINTS["yield_strength"])


def test_a_fitted_model_is_its_own(tmp_path):
    inputs, strengths = as_inputs(POINTS.iloc[::8]), POINTS["yield_strength"].iloc[::8].to_numpy(copy=True)
    whole_numbers = {"n_steps": np.int64(8), "n_kept": np.int64(2), "seed": np.int64(0)}  # as from GridSearchCV
    model = SofteningGP(**whole_numbers).fit(inputs, strengths)
    before = model.predict(POINTS)
    inputs[:], strengths[:] = 0, 9
    np.testing.assert_array_equal(model.predict(POINTS), before)
    again = SofteningGP.load(model.save(tmp_path / "model.safetensors"))
    np.testing.assert_allclose(again.predict(POINTS), before, rtol=1e-9)
    assert not hasattr(model, "feature_names_in_")
    of_frame = SofteningGP(n_steps=4, n_kept=2).fit(POINTS, POINTS["yield_strength"])
    assert list(of_frame.feature_names_in_) == [*PALETTE, "temperature"]


def test_an_interrupted_fit_leaves_the_model_as_it_was(monkeypatch):
    model = XYieldEstimator(n_steps=8, n_kept=2, n_chains=1).fit(POINTS.iloc[::8], POINTS["yield_strength"].iloc[::8])
    before, strengths = vars(model).copy(), model.predict(POINTS)

    def stopped(*_):
        raise KeyboardInterrupt

    for late in ("_sampled", "_remember_columns"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(experts, late, stopped)
            model.fit(POINTS, POINTS["yield_strength"])
        assert vars(model).keys() == before.keys() and all(vars(model)[name] is before[name] for name in before)
    np.testing.assert_array_equal(model.predict(POINTS), strengths)


def test_nothing_of_the_caller_is_kept(tmp_path):
    known = POINTS.iloc[::8]
    inputs, strengths, groups = as_inputs(known), known["yield_strength"].to_numpy(copy=True), publications(known)
    numbers = {"n_steps": np.int64(8), "n_kept": np.int32(2), "n_chains": np.int64(1), "seed": np.uint64(2**63)}
    model = XYieldEstimator(**numbers, without=["widening"]).fit(inputs, strengths, groups)
    before = model.predict(POINTS, return_std=True)
    inputs[:], strengths[:], groups[:] = 0, 9, ["other"] * len(groups)
    np.testing.assert_array_equal(model.predict(POINTS, return_std=True), before)
    again = XYieldEstimator.load(model.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(again.predict(POINTS, return_std=True), before)
    assert again.get_params() == numbers | {"without": ("widening",)}


@pytest.mark.parametrize(("groups", "message"), [
    (5, "groups are 5"), ("a paper", "groups are 'a paper'"), (["a", "b"], "2 groups are given; expected 238")])
def test_groups_that_are_none_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        XYieldEstimator(n_steps=8, n_kept=2, n_chains=1).fit(POINTS, POINTS["yield_strength"], groups)


def test_groups_may_come_one_by_one():
    known, found = POINTS.iloc[::8], []
    for groups in (publications(known), (g for g in publications(known))):
        model = XYieldEstimator(n_steps=8, n_kept=2, n_chains=1).fit(known, known["yield_strength"], groups)
        found.append((model.widening_, model.second_widening_))
    assert found[0] == found[1]


def test_unknown_part_is_refused():
    with pytest.raises(ValueError, match="expected some of simulator"):
        SofteningGP(without=("physics",)).fit(POINTS, POINTS["yield_strength"])


def test_no_strength_is_left_near_the_melting_point_and_the_unknown_is_uncertain(model):
    kelvin = pd.DataFrame({"formula": "MoNbTaTi", "temperature": [300.0, 2700.0]})
    cold, hot = model.predict(kelvin)
    assert abs(hot) < 0.1 < cold
    alloys = pd.DataFrame({"formula": ["MoNbTaTi", "FeCrAl"], "temperature": 300.0})
    known, foreign = model.predict(alloys, return_std=True)[1]
    assert foreign > known


def test_command_line(model, tmp_path, capsys):
    path = str(model.save(tmp_path / "model.safetensors"))
    assert main(["predict", "MoNbTaTiW,FeMoNb", "--temperature", "298.15,1273", "--estimator", path]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.strip().splitlines()) == 5
    assert "FeMoNb: " in shown.err and "no measured alloy has Fe; a second phase is likely" in shown.err
    assert "MoNbTaTiW: measured itself" in shown.err or "MoNbTaTiW: the nearest measured relative" in shown.err
    assert main(["predict", "MoNbNi"]) == 1
    assert "contains Ni" in capsys.readouterr().err
    assert main(["predict", "MoNb", "--estimator", str(tmp_path / "none")]) == 1
    assert "no estimator at" in capsys.readouterr().err


def test_the_packages_model_is_what_a_fit_gives_today():
    with warnings.catch_warnings(action="error"):  # out of date: run chapter 32, as `make notebooks` does, and commit
        shipped = estimator.shipped_estimator()
    fitted = estimator.fitted_to_all(estimator.of_all_measurements())
    for name, samples in fitted.samples_.items():
        np.testing.assert_allclose(shipped.samples_[name], samples, rtol=1e-6)
    found, expected = (m.predict(POINTS, return_std=True) for m in (shipped, fitted))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


FEW = ALL.iloc[::9]
SHORT = {"n_steps": 8, "n_kept": 2, "n_chains": 1}


@pytest.mark.parametrize("flags, words", [
    (FEW["single_phase"][:5], "expected True or False for each of"),
    (FEW["single_phase"].astype(int), "expected True or False for each of"),
    (np.zeros(len(FEW), bool), "single_phase is False for all points"),
    ("BCC", "expected True or False for each of"),
])
def test_flags_that_are_none_are_refused(flags, words):
    with pytest.raises(ValueError, match=words):
        XYieldEstimator(**SHORT).fit(FEW, FEW["yield_strength"], single_phase=flags)


@pytest.mark.parametrize("kind", [TwoExperts, XYieldEstimator])
def test_a_model_with_alloys_of_several_phases_comes_back_from_its_file(kind, tmp_path):
    flags = FEW["single_phase"].to_numpy(copy=True)
    model = kind(**SHORT).fit(FEW, FEW["yield_strength"], publications(FEW), flags)
    before = model.predict(POINTS[:30], return_std=True)
    flags[:] = True
    again = kind.load(model.save(tmp_path / "mine.safetensors"))
    for other in (model, again):
        np.testing.assert_allclose(other.predict(POINTS[:30], return_std=True), before, rtol=1e-9)
    np.testing.assert_array_equal(again.single_phase_, FEW["single_phase"])


def test_points_of_several_phases_change_what_is_predicted_and_none_is_the_model_without_them():
    known = FEW[FEW["single_phase"]]
    alone, flagged = TwoExperts(**SHORT), TwoExperts(**SHORT)
    alone.fit(known, known["yield_strength"])
    flagged.fit(known, known["yield_strength"], single_phase=known["single_phase"])
    np.testing.assert_array_equal(alone.predict(POINTS), flagged.predict(POINTS))
    both = TwoExperts(**SHORT).fit(FEW, FEW["yield_strength"], single_phase=FEW["single_phase"])
    assert np.abs(both.predict(POINTS) - alone.predict(POINTS)).max() > 0.01


@pytest.mark.parametrize("task, apart", [
    ("few_shot_23", "alloy"), ("systems", "system"), ("publications", "publication"), ("cold_to_hot", "temperature")])
def test_the_second_source_gives_no_asked_point_away(task, apart):
    splits = BENCHMARK[task]
    for seed in list(splits.seeds)[::7]:
        train, test = splits.protocol.split(POINTS, seed)
        asked, found = POINTS.iloc[test], second_source(as_inputs(POINTS.iloc[train]), apart)
        far = np.abs(as_inputs(found)[:, None, :-1] - as_inputs(asked)[None, :, :-1]).sum(2) / 2
        assert (far > 0.005).all() and len(found) > 20
        if apart == "system":
            assert not set(found["system"]) & set(asked["system"])
        if apart == "publication":
            assert not {d for dois in asked["dois"] for d in dois.split()} & set(" ".join(found["dois"]).split())
        if apart == "temperature":
            assert found["temperature"].max() <= POINTS.iloc[train]["temperature"].max()
    model = WithSeveralPhases(**SHORT, apart=apart).fit(POINTS.iloc[train], POINTS.iloc[train]["yield_strength"])
    assert (~model.single_phase_).sum() == len(found)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    "A copy of the package's file, which is used instead of it."
    path = tmp_path / "estimator.safetensors"
    shutil.copy(estimator.SHIPPED, path)
    monkeypatch.setattr(estimator, "SHIPPED", path)
    store.code_version.cache_clear()
    yield path
    store.code_version.cache_clear()


def edited(monkeypatch, module, old, new):
    "Pretend that a module's source was edited."
    source = store._source
    assert old in source(module)
    monkeypatch.setattr(store, "_source", lambda m: source(m).replace(old, new) if m == module else source(m))


def test_a_comment_another_library_and_a_last_digit_cost_no_fit(shipped, monkeypatch):
    edited(monkeypatch, "softening", "# θ_c", "# the onset")
    edited(monkeypatch, "experts", "# GPa, s_w", "# GPa, of an element")
    monkeypatch.setattr(store, "_package_version", lambda name: "99")
    nudged = ALL.assign(yield_strength=ALL["yield_strength"] * (1 + 4e-16))
    monkeypatch.setattr(estimator, "all_measurements", lambda: nudged)
    monkeypatch.setattr(XYieldEstimator, "fit", lambda *_: pytest.fail("it was fitted"))
    model = estimator.default_estimator()
    assert {len(samples) for samples in model.samples_.values()} == {model.n_kept * model.n_chains}


def measured(monkeypatch, points):
    "Pretend that another version of the library that reads formulas reads other measurements."
    monkeypatch.setattr(estimator, "version", lambda name: "99")
    monkeypatch.setattr(estimator, "all_measurements", lambda: points)


CHANGES = {
    "its code is": lambda path, patch: edited(patch, "simulator", "ALPHA = 1 / 12", "ALPHA = 1 / 13"),
    "its settings are": lambda path, patch: patch.setattr(
        estimator, "of_all_measurements", lambda: XYieldEstimator(n_steps=301)),
    "other measurements": lambda path, patch: measured(
        patch, ALL.assign(yield_strength=ALL["yield_strength"] + 1e-3)),
    "fitted to other": lambda path, patch: measured(patch, ALL[:-1]),
    "its checksum": lambda path, patch: path.write_bytes(path.read_bytes()[:-1] + b"!"),
    "No such file": lambda path, patch: path.unlink(),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_a_model_that_is_not_of_today_is_not_used_and_the_reason_is_named(shipped, monkeypatch, reason):
    CHANGES[reason](shipped, monkeypatch)
    with pytest.warns(UserWarning, match=f"estimator.safetensors cannot be used: .*{reason}"):
        assert estimator.shipped_estimator() is None


def test_another_default_is_fitted_and_stored_only_where_there_is_a_store(tmp_path, monkeypatch):
    monkeypatch.setattr(estimator, "of_all_measurements", lambda: XYieldEstimator(n_steps=4, n_kept=1, n_chains=1))
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "runs"))
    for made, n in ((False, 0), (True, 1)):
        if made:
            (tmp_path / "runs").mkdir()
        with pytest.warns(UserWarning, match="its settings are"):
            assert len(estimator.default_estimator().samples_["elements"]) == 1
        assert len(list((tmp_path / "runs").rglob("*.safetensors"))) == n


def test_small_matrices_have_one_thread_and_others_theirs(monkeypatch):
    seen = []

    def threads(*_):
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return likelihood(*_)

    likelihood = experts.log_likelihood
    monkeypatch.setattr(experts, "log_likelihood", threads)
    with threadpool_limits(2, "blas"):
        TwoExperts(n_steps=4, n_kept=1).fit(POINTS[::8], POINTS["yield_strength"][::8])
        after = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert set(seen) == {1} and after == {2}


def test_the_wheel_answers_at_once_in_an_empty_home(elsewhere, tmp_path):
    (home := tmp_path / "home").mkdir()
    environment = elsewhere[1] | {"HOME": str(home)}
    ask = ("import sys; from xyield.command_line import main; code = main(['predict', 'MoNbTaTiW']); "
           "print(*sys.modules); sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", ask], cwd=home, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "MoNbTaTiW: measured itself\n")
    *table, modules = done.stdout.splitlines()
    assert len(table) == 2
    slow = {"torch", "timm", "smt", "lightgbm", "matplotlib", "numba", "sklearn.linear_model", "xyield.peers"}
    assert not slow & set(modules.split())
    assert not list(home.iterdir())


def test_files_in_and_out(model, tmp_path, capsys):
    path, asked, found = str(model.save(tmp_path / "model.safetensors")), tmp_path / "in.csv", tmp_path / "out.csv"
    asked.write_text("name,formula,temperature\na,MoNbTaTi,300\nb,HfNbTaTiZr,1273.15\n")
    assert main(["predict", "--csv", str(asked), str(found), "--estimator", path]) == 0
    table = pd.read_csv(found)
    np.testing.assert_allclose(table["strength"], model.predict(pd.read_csv(asked)), atol=6e-4)
    assert table["name"].tolist() == ["a", "b"] and (table["low"] < table["high"]).all()
    capsys.readouterr()
    for content, words in (("formula\nMoNb\n", "expected temperature"), ("formula,temperature\n", "has no rows"),
                           ("", "cannot be read as CSV"), ("formula,temperature\nMoNi,300\n", "contains Ni")):
        asked.write_text(content)
        assert main(["predict", "--csv", str(asked), str(found), "--estimator", path]) == 1
        assert words in capsys.readouterr().err
    assert main(["predict", "MoNb", "--csv", str(asked), str(found)]) == 1
    assert "one of the two" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # scales at their bounds: usual with eleven points
@pytest.mark.parametrize("name", [n for n in peers() if "co-kriging" not in n])
def test_peer_fits_eleven_points_and_predicts_all(name):
    "Better than the mean of the eleven, at those and at the others; each point by itself."
    rows = HeldOutSystems().split(POINTS, 0)[0][::20]
    few, others, truth = POINTS.iloc[rows], np.setdiff1d(np.arange(238), rows), POINTS["yield_strength"].to_numpy()
    model = peers()[name].fit(few, few["yield_strength"])
    found, order = model.predict(POINTS), np.random.default_rng(0).permutation(238)
    np.testing.assert_allclose(model.predict(POINTS.iloc[order]), found[order], rtol=1e-6, atol=1e-9)
    seen, unseen = (np.mean((found - truth)[part] ** 2) / np.mean((truth[rows].mean() - truth[part]) ** 2)
                    for part in (rows, others))
    assert (seen, unseen) == (1, 1) if name == "mean" else (seen < 0.65 and unseen < 0.95)
    if name == "simulator":
        np.testing.assert_allclose(found, yield_strength(POINTS[list(PALETTE)], POINTS["temperature"]), rtol=1e-9)


@pytest.mark.parametrize("protocol", [FewShot(0.05), HeldOutSystems()], ids=str)
def test_a_peer_sees_the_training_points_and_no_others(runs, protocol):
    rows, strengths = run_regressor("mean", peers()["mean"], protocol, POINTS, [0, 1]), POINTS["yield_strength"]
    for row in rows.to_dict("records"):
        train, test = protocol.split(POINTS, row["seed"])
        np.testing.assert_allclose(row["prediction"], np.full(238, strengths.iloc[train].mean()))
        np.testing.assert_array_equal(row["test"], test)
        assert row["n_train"] == len(train)
    found, truth = scores(rows, strengths.to_numpy()), strengths.iloc[rows["test"][0]]
    assert found["mse"][0] == pytest.approx(np.mean((truth - rows["prediction"][0][0]) ** 2))
