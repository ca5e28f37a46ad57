"""Compositions, formulas, tables and temperatures: what is read, what is refused, and with which words."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xyield.alloys import (
    PALETTE,
    alloy_system,
    as_compositions,
    as_temperatures,
    celsius_to_kelvin,
    from_table,
    parse_formula,
    parse_formulas,
    to_formula,
)

amounts = st.lists(st.floats(0.001, 100), min_size=1, max_size=11)
elements = st.permutations(PALETTE)


@given(amounts, elements)
def test_formula_there_and_back(amounts, elements):
    formula = " ".join(f"{e}{a:.6f}" for e, a in zip(elements, amounts, strict=False))
    composition = parse_formula(formula)
    assert composition.sum() == pytest.approx(1)
    assert (composition > 0).sum() == len(amounts)
    np.testing.assert_allclose(parse_formula(to_formula(composition, digits=12)), composition, rtol=1e-9)


@given(amounts, elements)
def test_packed_and_spaced_formulas_and_tables_mean_the_same(amounts, elements):
    parts = [f"{e}{a:.6f}" for e, a in zip(elements, amounts, strict=False)]
    rounded = {e: float(f"{a:.6f}") for e, a in zip(elements, amounts, strict=False)}
    percent = pd.DataFrame([rounded]) * (100 / sum(rounded.values()))
    np.testing.assert_allclose(parse_formula("".join(parts)), parse_formula(" ".join(parts)))
    np.testing.assert_allclose(from_table(percent)[0], parse_formula("".join(parts)), atol=1e-12)


@given(st.text(max_size=30))
def test_any_text_is_a_composition_or_a_value_error(text):
    try:
        composition = parse_formula(text)
    except ValueError as error:
        assert repr(text) in str(error) or "row 0" in str(error)
    else:
        assert composition.sum() == pytest.approx(1)
        assert (composition >= 0).all()


@given(amounts, elements)
def test_amounts_before_elements_hyphens_and_subscripts_mean_the_same(amounts, elements):
    "As one writes them by hand: `50Mo50Nb`, `Mo50-Nb50`, `Mo₅₀Nb₅₀`."
    pairs = [(e, f"{a:.3f}") for e, a in zip(elements, amounts, strict=False) if float(f"{a:.3f}")]
    if pairs:
        expected = parse_formula("".join(e + a for e, a in pairs))
        subscripts = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
        for typed in ("".join(a + e for e, a in pairs), "-".join(a + e for e, a in pairs),
                      " – ".join(e + a for e, a in pairs), "".join(e + a.translate(subscripts) for e, a in pairs)):
            np.testing.assert_array_equal(parse_formula(typed), expected)


def test_a_long_formula_is_refused_at_once():
    "No pattern tries the ways in which blanks and digits could be shared out."
    for text in ("11Mo  " * 160 + "x", "1" * 999 + "x", "Mo  -  " * 140, " " * 900 + "x"):
        began = time.process_time()
        with pytest.raises(ValueError, match="formula"):
            parse_formula(text)
        assert time.process_time() - began < 1


@pytest.mark.parametrize(("formula", "words"), [
    ("Ti-6Al-4V", "'Ti-6Al-4V'"), ("50MoNb", "'50MoNb'"), ("Mo--Nb", "'Mo--Nb'"), ("Mo²Nb", "all ASCII"),
    ("MoNbXy", "unrecognised element symbol"), ("MoNbNi", "contains Ni; expected elements of Al-Cr"),
    ("Mo-1Nb1", "'Mo-1Nb1'"), ("Mo0 Nb0", "sum to a positive"), ("", "formula is ''"), ("  ", "formula is '  '"),
    ("MoNbMo", "names Mo more than once"), ("(MoNb)2Mo", "names Mo more than once"), ("MonanNb", "'MonanNb'"),
    ("Mo" + "9" * 400 + "Nb", "nan"),
    (None, "formula is None"), (float("nan"), "formula is nan"), (42, "formula is 42")])
def test_bad_formula_is_named(formula, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        parse_formula(formula)


@pytest.mark.parametrize(("change", "words"), [
    (lambda c: c * -1, "fraction of Mo is -0.25; expected 0 or more"), (lambda c: c * 0, "fractions sum to 0;"),
    (lambda c: c + np.nan, "fraction of Al is nan"), (lambda c: c * np.inf, "expected a finite number"),
    (lambda c: c[:, :5], r"expected \[n, 11\]"), (lambda c: c * 0.9, "fractions sum to 0.9;")])
def test_bad_fractions_are_named_with_their_row(change, words):
    good = parse_formulas(["MoNbTaTi", "MoNbTaTi"])
    with pytest.raises(ValueError, match=words), np.errstate(invalid="ignore"):
        as_compositions(change(good))


def test_row_of_a_bad_fraction_is_the_right_one():
    fractions = parse_formulas(["MoNbTaTi"] * 5)
    fractions[3, PALETTE.index("W")] = -0.5
    with pytest.raises(ValueError, match=r"row 3: fraction of W is -0\.5"):
        as_compositions(fractions)


@pytest.mark.parametrize(("table", "words"), [
    (pd.DataFrame({"Mo": [50], "Ni": [50]}), "columns Ni"), (pd.DataFrame({"Mo": []}), "at least one row"),
    (pd.DataFrame({"Mo": [50], "Nb": [np.nan]}), "fraction of Nb is nan"),
    (pd.DataFrame([[50, 50]], columns=["Mo", "Mo"]), "each element once")])
def test_bad_table_is_refused(table, words):
    with pytest.raises(ValueError, match=words):
        from_table(table)


def test_no_formulas_are_refused():
    with pytest.raises(ValueError, match="no formulas"):
        parse_formulas([])


@pytest.mark.parametrize("temperature", [0, -1, 25, 200, 5000, np.nan, np.inf, [300, 0]])
def test_bad_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="expected kelvin between 250 and 4000"):
        as_temperatures(temperature)


def test_celsius_is_suspected_and_converted():
    with pytest.raises(ValueError, match=r"pass celsius_to_kelvin\(25\)"):
        as_temperatures(25)
    assert as_temperatures(celsius_to_kelvin(25)) == 298.15


def test_system_is_in_palette_order():
    assert alloy_system(parse_formula("WVTiTaNbMo")) == "Mo-Nb-Ta-Ti-V-W"
