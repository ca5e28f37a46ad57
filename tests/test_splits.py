"""Splits: what every protocol has to be, and what each promises."""

import numpy as np
import pytest

from xyield.measurements import measurements
from xyield.splits import (
    BENCHMARK,
    ColdToHot,
    CrossValidation,
    FewShot,
    FixedSplit,
    HeldOutAlloys,
    HeldOutPapers,
    HeldOutSystems,
    RepeatedFolds,
    Validation,
    WithoutTwins,
)

POINTS = measurements()
ALLOY = "Mo1 Nb1 Ta1 Ti1 W1"
RANDOM = {"few": FewShot(0.10), "fewer": FewShot(0.05), "held-out alloy": HeldOutAlloys(0.10, (ALLOY,)),
          "inner": Validation(0.10), "cold to hot": ColdToHot(), "no twins": WithoutTwins(FewShot(0.05))}
FOLDS = {"folds": CrossValidation(), "other folds": CrossValidation(7, shuffle_seed=3), "systems": HeldOutSystems(),
         "papers": HeldOutPapers(), "repeated folds": RepeatedFolds(10, 1000),
         "folds without twins": WithoutTwins(CrossValidation(), "train")}
ALL = RANDOM | FOLDS | {"fixed": FixedSplit(FewShot(0.10), 3)}


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_split_and_no_point_on_both_sides(name):
    for seed in range(7):
        train, test = ALL[name].split(POINTS, seed)
        again = ALL[name].split(POINTS.sample(frac=1, random_state=0).sort_index(), seed)
        np.testing.assert_array_equal(train, again[0])
        np.testing.assert_array_equal(test, again[1])
        assert len(train) and len(test) and not set(train) & set(test)
        assert len(set(train)) == len(train) and len(set(test)) == len(test)


@pytest.mark.parametrize("name", RANDOM | FOLDS)
def test_another_seed_is_another_training_set(name):
    parts = {tuple((RANDOM | FOLDS)[name].split(POINTS, seed)[0]) for seed in range(7)}
    assert len(parts) == 7


@pytest.mark.parametrize("name", RANDOM)
def test_over_many_seeds_every_point_has_its_turn(name):
    "Within the points that may be trained on; 200 draws miss a point with a probability below 1e-4."
    drawn = np.zeros(len(POINTS))
    for seed in range(200):
        drawn[RANDOM[name].split(POINTS, seed)[0]] += 1
    allowed = {"held-out alloy": (POINTS["formula"] != ALLOY).to_numpy(),
               "cold to hot": (POINTS["temperature"] < 900).to_numpy()}.get(name, np.full(len(POINTS), True))
    assert not drawn[~allowed].any()
    n = len(RANDOM[name].split(POINTS, 0)[0])
    assert (drawn[allowed] > 0).mean() >= 1 - 3 * (1 - n / allowed.sum()) ** 200
    assert drawn.sum() == 200 * n


@pytest.mark.parametrize("name", FOLDS)
def test_every_point_is_tested_once(name):
    folds = getattr(FOLDS[name], "folds", 10)
    tested = np.concatenate([FOLDS[name].split(POINTS, fold)[1] for fold in range(folds)])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(POINTS)))


def test_few_shot_splits_are_stratified_by_number_of_elements():
    shares = POINTS["n_elements"].value_counts(normalize=True)
    for seed in range(5):
        train, test = FewShot(0.10).split(POINTS, seed)
        counts = POINTS["n_elements"].iloc[train].value_counts()
        assert all(abs(counts[n] - share * len(train)) < 1 for n, share in shares.items())
        assert len(train) + len(test) == len(POINTS)


def test_the_inner_split_never_sees_a_test_point():
    for seed in range(5):
        train, _ = FewShot(0.10).split(POINTS, seed)
        divisions = [Validation(0.10, repeat=r).split(POINTS, seed) for r in range(3)]
        for inner, held in divisions:
            assert set(inner) | set(held) == set(train)
        assert len({tuple(inner) for inner, _ in divisions}) == 3


@pytest.mark.parametrize(("protocol", "column"), [(HeldOutSystems(), "system"), (HeldOutPapers(), "dois")], ids=str)
def test_nothing_of_a_held_out_group_is_trained_on(protocol, column):
    groups = POINTS[column].str.split()
    for fold in range(10):
        train, test = protocol.split(POINTS, fold)
        assert not set().union(*groups.iloc[train]) & set().union(*groups.iloc[test])


def test_a_held_out_alloy_is_tested_at_every_temperature():
    for seed in range(5):
        train, test = RANDOM["held-out alloy"].split(POINTS, seed)
        assert ALLOY not in set(POINTS["formula"].iloc[train])
        assert set(np.flatnonzero(POINTS["formula"] == ALLOY)) <= set(test)
        assert len(train) == 23


def same_alloy_within(kelvin):
    "Pairs of rows, found by comparing every point with every other."
    formula, temperature = POINTS["formula"].to_numpy(), POINTS["temperature"].to_numpy()
    same = (formula[:, None] == formula) & (np.abs(temperature[:, None] - temperature) <= kelvin)
    return same & ~np.eye(len(POINTS), dtype=bool)


@pytest.mark.parametrize("task", BENCHMARK)
def test_no_split_of_the_benchmark_has_the_same_alloy_at_nearly_the_same_temperature_on_both_sides(task):
    near = same_alloy_within(10)
    assert near.sum() == 24
    for seed in BENCHMARK[task].seeds:
        train, test = BENCHMARK[task].protocol.split(POINTS, seed)
        assert not near[np.ix_(train, test)].any()
        assert not set(train) & set(test)


def test_the_papers_folds_do_have_twins_on_both_sides():
    near = same_alloy_within(10)
    assert any(near[np.ix_(*CrossValidation().split(POINTS, fold))].any() for fold in range(10))


@pytest.mark.parametrize("task", [t for t, splits in BENCHMARK.items() if splits.per_round > 1])
def test_a_round_tests_every_point_once(task):
    splits = BENCHMARK[task]
    for begin in range(0, len(splits.seeds), splits.per_round):
        parts = [splits.protocol.split(POINTS, s)[1] for s in splits.seeds[begin : begin + splits.per_round]]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(POINTS)))


def test_few_shot_tasks_train_on_exactly_11_and_23_points():
    for task, n in (("few_shot_11", 11), ("few_shot_23", 23)):
        assert {len(BENCHMARK[task].protocol.split(POINTS, s)[0]) for s in BENCHMARK[task].seeds} == {n}
        assert list(BENCHMARK[task].seeds) == list(range(1000, 1030))
