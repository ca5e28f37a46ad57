"""The design space as a sequence, and the compiled sweep against the numpy reference."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xyield.survey
from xyield.simulator import TAYLOR_FACTOR, yield_strength
from xyield.space import DesignSpace, temperature_grid
from xyield.survey import as_stretch, distribution, percentages, strengths, strongest, two_parameters

SPACE = DesignSpace()
KELVIN = temperature_grid(50)
BOUNDARIES = [start for start, *_ in SPACE._blocks[1:]]  # where the number of elements changes
begins = st.one_of(st.integers(0, len(SPACE) - 1000), st.sampled_from(BOUNDARIES).map(lambda b: b - 500))


@given(st.lists(st.integers(0, len(SPACE) - 1), min_size=1, max_size=200))
def test_map_is_a_bijection(indices):
    assert (SPACE.index(SPACE.compositions(indices)) == indices).all()


@given(begins, st.integers(1, 300))
def test_neighbours_are_different_alloys_in_order(begin, n):
    compositions = SPACE[begin : begin + n].compositions()
    assert len(np.unique(compositions.round(6), axis=0)) == n
    assert (SPACE.index(compositions) == np.arange(begin, begin + n)).all()


@given(st.slices(1000), st.integers(-1000, 999))
def test_slices_are_those_of_a_range(piece, item):
    part, indices = SPACE[2000:3000][piece], range(2000, 3000)[piece]
    assert part.indices == indices
    if -len(indices) <= item < len(indices):
        assert SPACE.index(part[item]) == indices[item]
    else:
        with pytest.raises(IndexError):
            part[item]


def test_ends_and_iteration():
    assert (SPACE[-1] == SPACE[len(SPACE) - 1]).all()
    assert len(list(SPACE[5:8])) == 3
    for outside in (len(SPACE), -len(SPACE) - 1):
        with pytest.raises(IndexError, match="outside of 68,676,993 alloys"):
            SPACE[outside]


def test_sample_is_uniform_distinct_and_seeded():
    drawn = SPACE.sample(200_000, seed=5)
    assert len(np.unique(drawn)) == 200_000
    assert (drawn == SPACE.sample(200_000, seed=5)).all()
    counts = np.histogram(drawn, 100, (0, len(SPACE)))[0]
    assert np.abs(counts / 2000 - 1).max() < 6 / 2000**0.5
    with pytest.raises(ValueError, match="n is -1"):
        SPACE.sample(-1)


@pytest.mark.parametrize("elements", ["table4", "atlas"])
@settings(deadline=None, max_examples=25)
@given(begin=begins)
def test_compiled_is_reference(elements, begin):
    part = range(begin, begin + 1000)
    fast, slow = (strengths(KELVIN, part, elements, np.float64, engine) for engine in ("numba", "numpy"))
    np.testing.assert_allclose(fast, slow, rtol=1e-11)
    np.testing.assert_allclose(strengths(KELVIN, part, elements), slow, rtol=1e-5)
    assert (percentages(part) == percentages(part, "numpy")).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gap", [1e-6, 1e-9, 1e-12])
def test_branch_is_right_on_both_sides_of_the_switch(dtype, gap):
    for index in SPACE.sample(50):
        part = range(int(index), int(index) + 1)
        switch = two_parameters(part)[1][0] * 0.5**1.5
        kelvin = switch * np.array([1 - gap, 1 + gap])
        if not 250 < switch < 4000:
            continue
        expected = yield_strength(SPACE.compositions(index), kelvin[:, None])
        assert expected[1] > 1.04 * expected[0]
        np.testing.assert_allclose(strengths(kelvin, part, dtype=dtype), expected, rtol=1e-6)


@given(st.lists(st.floats(250, 4000), min_size=1, max_size=7))
@settings(deadline=None, max_examples=25)
def test_any_temperatures_in_any_order(kelvin):
    part = range(1_000_000, 1_000_300)
    expected = yield_strength(SPACE.compositions(np.asarray(part)), np.array(kelvin)[:, None])
    np.testing.assert_allclose(strengths(kelvin, part, dtype=np.float64), expected, rtol=1e-9)


def test_distribution_agrees_with_all_values_and_with_numpy():
    part = SPACE[BOUNDARIES[1] - 20_000 : BOUNDARIES[1] + 20_000]
    values = strengths(KELVIN, part, dtype=np.float64)
    results = [distribution(KELVIN, part, [0.5, 1.0], engine=e, progress=False) for e in ("numba", "numpy")]
    for result in results:
        np.testing.assert_allclose(result.mean, values.mean(1), rtol=1e-11)
        np.testing.assert_allclose(result.variance, values.var(1), rtol=1e-9)
        np.testing.assert_allclose([result.minimum, result.maximum], [values.min(1), values.max(1)], rtol=1e-11)
        assert (result.above == (values[..., None] > [0.5, 1.0]).sum(1)).all()
        assert (result.counts.sum(1) == len(part)).all()
        exact = np.quantile(values, [0.0, 0.1, 0.5, 0.999, 1.0], axis=1, method="inverted_cdf").T
        assert np.abs(result.quantile([0.0, 0.1, 0.5, 0.999, 1.0]) - exact).max() <= 0.501 * result.bin_width


def test_pieces_add_up_whatever_their_number():
    whole = range(5_000_000, 5_030_000)
    together = distribution(KELVIN, whole, [1.0], progress=False)
    apart = [distribution(KELVIN, whole[i : i + 7001], [1.0], progress=False) for i in range(0, len(whole), 7001)]
    total = sum(apart[1:], apart[0])
    assert (total.counts == together.counts).all() and (total.above == together.above).all()
    np.testing.assert_allclose(total.variance, together.variance, rtol=1e-10)
    with pytest.raises(ValueError, match="differ in bin_width"):
        together + distribution(KELVIN, whole, [1.0], bin_width=0.1, progress=False)


def test_killed_survey_goes_on_where_it_was(runs, monkeypatch):
    part = range(30_000_000, 30_000_000 + 40 * (1 << 15))  # forty pieces of numpy's
    code = ("import xyield.survey as s; s.SAVE_SECONDS = 0\n"
            f"s.distribution([300.0, 1300.0], {part}, [1.0], engine='numpy', progress=False, keep=True)")
    process = subprocess.Popen([sys.executable, "-c", code])
    while process.poll() is None and not list(runs.rglob("*.progress")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was faster"
    pieces, whole = [], xyield.survey._distribution_numpy
    monkeypatch.setattr(xyield.survey, "_distribution_numpy", lambda p, *a: pieces.append(p) or whole(p, *a))
    ask = dict(temperature=[300.0, 1300.0], part=part, thresholds=[1.0], engine="numpy", progress=False)
    again = distribution(**ask, keep=True)
    assert 0 < len(pieces) < 40 and pieces[-1].stop == part.stop
    done = len(pieces)
    read, computed = distribution(**ask, keep=True), len(pieces) - done
    assert computed == 0
    for name, value in dataclasses.asdict(distribution(**ask)).items():
        np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
        np.testing.assert_array_equal(getattr(read, name), value, err_msg=name)
    assert not list(runs.rglob("*.progress")) and os.listdir(runs) == ["surveys"]


def test_strongest_are_the_strongest():
    part = range(2_000_000, 4_200_000)  # more than one piece
    kelvin = [300.0, 1300.0, 2300.0]
    expected, top = strengths(kelvin, part, dtype=np.float64), strongest(kelvin, 50, part, progress=False)
    for values, (_, found) in zip(expected, top.groupby("temperature"), strict=True):
        order = np.argsort(-values, kind="stable")[:50]
        assert (found["index"] == part.start + order).all()
        assert (found["rank"] == np.arange(1, 51)).all()
        np.testing.assert_allclose(found["yield_strength"], values[order], rtol=1e-12)


@pytest.mark.parametrize("engine", ["numba", "numpy"])
@pytest.mark.parametrize("k", [1, 40, 4000, 5003])  # of 20 batches, the last of which is short
def test_any_number_of_strongest(engine, k):
    part = range(2_000_000, 2_005_003)
    top = strongest(1300.0, k, part, engine=engine, progress=False)
    order = np.argsort(-strengths(1300.0, part, dtype=np.float64)[0], kind="stable")[:k]
    assert (top["index"] == part.start + order).all()


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_there_is_no_quantile_without_a_histogram(engine):
    without = distribution(300.0, range(1000), upper=0, engine=engine, progress=False)
    with pytest.raises(ValueError, match="there is no histogram"):
        without.quantile(0.5)


def test_quantile_beyond_the_bins_is_refused():
    narrow = distribution(300.0, range(1000), upper=0.1, progress=False)
    with pytest.raises(ValueError, match=r"beyond 0\.1 GPa"):
        narrow.quantile(0.99)


@pytest.mark.parametrize(("part", "error"), [
    (range(-1, 5), IndexError), (range(0, 10**9), IndexError), (range(0, 10, 2), ValueError), ("all", ValueError)])
def test_bad_stretch_is_refused(part, error):
    with pytest.raises(error, match="expected"):
        as_stretch(part)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: distribution(25.0, range(5)), "celsius_to_kelvin"), (lambda: distribution([], range(5)), "expected one"),
    (lambda: distribution(300.0, range(0)), "0 alloys"), (lambda: strongest(300.0, 6, range(5)), "k is 6"),
    (lambda: strengths(300.0, range(5), "gold"), "elements is 'gold'"),
    (lambda: strengths(300.0, range(5), dtype=int), "dtype is int64; expected float32 or float64"),
    (lambda: distribution(300.0, range(5), [np.nan]), "thresholds are"),
    (lambda: distribution(300.0, range(5), upper=np.inf), "upper inf"),
    (lambda: strengths(300.0, range(5), engine="gpu"), "engine is 'gpu'"),
    (lambda: strengths(300.0, range(5), out=np.empty((1, 4))), "out has shape"),
    (lambda: two_parameters(range(5), strain_rate=1e5), "strain_rate is")])
def test_bad_option_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_without_numba_numpy_does_it():
    code = ("import sys; sys.modules['numba'] = None\n"
            "from xyield.survey import strengths\n"
            "assert 'torch' not in sys.modules\n"
            "print(strengths(1300.0, range(3), dtype=float).tolist())\n"
            "try: strengths(1300.0, range(3), engine='numba')\n"
            "except ImportError: print('refused')")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    values, refused = result.stdout.splitlines()
    assert refused == "refused"
    assert np.allclose(eval(values), yield_strength(SPACE.compositions([0, 1, 2]), 1300.0), rtol=1e-12)
    assert TAYLOR_FACTOR > 3
