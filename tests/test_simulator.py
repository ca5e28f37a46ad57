"""The simulator against the paper's Table 4, and the design space as a bijection."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xyield.alloys import parse_formula
from xyield.paper import TABLE4
from xyield.simulator import BOLTZMANN, TAYLOR_FACTOR, THERMAL, strength_parameters, yield_strength
from xyield.space import DesignSpace, simulated_sample, temperature_grid

SPACE = DesignSpace()
# where the paper prints another alloy's or another temperature's value, that one (see chapter 03)
PRINTED = {(row.alloy, row.temperature): row.simulation for row in TABLE4.itertuples()}
BELONGS_TO = {
    ("MoNbTaTi", 873.15): ("MoNbTaTi", 298.15),
    ("HfMoNbTaTiZr", 296.15): ("MoNbTaTiVZr", 296.15), ("HfMoNbTaTiZr", 873.15): ("MoNbTaTiVZr", 873.15),
    ("HfMoNbTaTiZr", 1073.15): ("MoNbTaTiVW", 1073.15), ("HfMoNbTaTiZr", 1273.15): ("MoNbTaTiVW", 1273.15)}
REPRODUCIBLE = sorted(PRINTED.keys() - {("MoNbTaTiW", 298.15)})


@pytest.mark.parametrize("printed", REPRODUCIBLE, ids=str)
def test_table4_to_three_decimals(printed):
    alloy, temperature = BELONGS_TO.get(printed, printed)
    tau_y0, barrier = strength_parameters(parse_formula(alloy).round(4))  # 0.1667, not 1/6, for the last digit
    x = BOLTZMANN * temperature * np.log(1e7) / barrier
    strength = TAYLOR_FACTOR * tau_y0 * THERMAL["two_branch"](x)
    assert strength == pytest.approx(PRINTED[printed], abs=5.5e-4)
    assert yield_strength(parse_formula(alloy), temperature).item() == pytest.approx(strength, rel=1e-3)


def test_all_reproducible_values_are_there():
    assert len(REPRODUCIBLE) == 12


def test_vectorised_is_one_by_one():
    compositions = SPACE.compositions(np.random.default_rng(0).integers(len(SPACE), size=50))
    kelvin = np.linspace(300, 2500, 50)
    together = yield_strength(compositions, kelvin)
    alone = [yield_strength(c, t).item() for c, t in zip(compositions, kelvin, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    np.testing.assert_allclose(np.diag(yield_strength(compositions, kelvin[:, None])), together, rtol=1e-12)


@given(st.permutations(range(11)), st.integers(2, 7))
def test_strength_falls_with_temperature_but_for_the_step(order, k):
    composition = np.zeros(11)
    composition[order[:k]] = 1 / k
    strength = yield_strength(composition, np.arange(300, 2501, 10.0)[:, None])[:, 0]
    assert (strength >= 0).all()
    rising = np.flatnonzero(np.diff(strength) > 0)
    assert len(rising) <= 1
    assert (strength[rising + 1] <= 1.06 * strength[rising]).all()


def test_single_branch_and_strain_rate():
    alloy = parse_formula("MoNbTaTi")
    assert yield_strength(alloy, 300, thermal="single") < yield_strength(alloy, 300)
    assert yield_strength(alloy, 300, strain_rate=1) > yield_strength(alloy, 300)
    with pytest.raises(ValueError, match="strain_rate is -1"):
        yield_strength(alloy, 300, strain_rate=-1)


def by_hand(volumes, constants):
    "τ_y0 (GPa) and ΔE_b (eV) of equal parts, in the words of Maresca and Curtin, one number at a time."
    n, volume = len(volumes), sum(volumes) / len(volumes)
    c11, c12, c44 = (sum(column) / n for column in zip(*constants, strict=True))
    misfit = sum((v - volume) ** 2 for v in volumes) / n
    shear, bulk, b = math.sqrt(c44 * (c11 - c12) / 2), (c11 + 2 * c12) / 3, math.sqrt(3) / 2 * (2 * volume) ** (1 / 3)
    nu = (3 * bulk - 2 * shear) / (6 * bulk + 2 * shear)
    factor = (1 + nu) / (1 - nu)
    strength = 0.04 * 12 ** (1 / 3) * shear * factor ** (4 / 3) * (misfit / b**6) ** (2 / 3)
    return strength, 2 * 12 ** (-1 / 3) * shear * b**3 * factor ** (2 / 3) * (misfit / b**6) ** (1 / 3) / 160.21766


@pytest.mark.parametrize(("elements", "volumes", "constants"), [
    ("table4", (15.524, 17.952, 14.020), ((450.02, 172.92, 125.03), (252.7, 133.2, 30.97), (232.4, 119.36, 45.95))),
    ("atlas", (3.147**3 / 2, 3.3**3 / 2, 3.03**3 / 2), ((463, 169, 109), (246, 134, 29), (227, 116, 47)))])
def test_presets_are_their_own_constants(elements, volumes, constants):
    alloy = parse_formula("MoNbV")
    expected = by_hand(volumes, constants)
    assert strength_parameters(alloy, elements) == pytest.approx(expected, rel=1e-9)
    x = BOLTZMANN * 300 * math.log(1e7) / expected[1]
    expected = 3.067 * expected[0] * (1 - x ** (2 / 3))
    assert yield_strength(alloy, 300, elements=elements).item() == pytest.approx(expected)


@given(st.integers(0, len(SPACE) - 1))
def test_index_there_and_back(index):
    composition = SPACE.compositions(index)
    assert composition.sum() == pytest.approx(1)
    assert 3 <= (composition > 0).sum() <= 7
    assert SPACE.index(composition) == index


def test_neighbours_differ_and_ends_are_where_they_should_be():
    edges = np.concatenate([np.arange(1000), len(SPACE) - 1 - np.arange(1000)])
    compositions = SPACE.compositions(edges)
    assert len(np.unique(compositions, axis=0)) == len(edges)
    assert (compositions[0] > 0).sum() == 3
    assert (compositions[1000] > 0).sum() == 7


@pytest.mark.parametrize("index", [-1, len(SPACE), [0, len(SPACE)], 0.5])
def test_index_outside_is_refused(index):
    with pytest.raises(IndexError, match="expected"):
        SPACE.compositions(index)


def test_sample_is_on_the_grid_distinct_and_seeded():
    sample = simulated_sample(5000, seed=3)
    assert not sample.duplicated().any()
    assert set(sample["temperature"]) <= set(temperature_grid())
    SPACE.index(sample.iloc[:, :11].to_numpy())
    assert sample.equals(simulated_sample(5000, seed=3))
    assert not sample.equals(simulated_sample(5000, seed=4))
