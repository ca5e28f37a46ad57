"""What every method has to be: replicates independent, the same seed the same bits, stored rows found again."""

import dataclasses

import numpy as np
import pytest
import torch

from xyield.bilevel import BiRPT
from xyield.measurements import measurements
from xyield.methods import HandTune
from xyield.networks import TASKS, Architecture
from xyield.runs import run
from xyield.splits import CrossValidation, FewShot
from xyield.training import PRETRAIN, TRANSFER, NoPretraining, Pretraining, PretrainTransfer, as_tensors

SMALL = Pretraining(n_simulated=500, architecture=Architecture((4, 4, 4), 8),
                    schedule=dataclasses.replace(PRETRAIN, epochs=2))
BRIEF = dataclasses.replace(TRANSFER, epochs=2)
METHODS = [NoPretraining(SMALL.architecture, transfer=BRIEF), PretrainTransfer(SMALL, BRIEF), HandTune(SMALL, BRIEF),
           BiRPT(SMALL, BRIEF, lower_every=1), BiRPT(SMALL, BRIEF, lower_steps=2, lower_mask_rate=1.0)]


def name(method):
    return type(method).__name__


@pytest.fixture(scope="module")
def points():
    return measurements()


def train(method, points, support, seeds, task="regression"):
    images, strengths = as_tensors(points)
    return method.train(TASKS[task], images, strengths, support, seeds, device="cpu")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", METHODS, ids=name)
def test_three_together_are_three_alone(method, task, points, runs):
    support = np.arange(36).reshape(3, 12)
    _, together = train(method, points, support, [0, 1, 2], task)
    for k in range(3):
        _, alone = train(method, points, support[k : k + 1], [k], task)
        np.testing.assert_allclose(alone["loss"][:, 0], together["loss"][:, k], rtol=2e-3)


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_same_seed_same_bits(method, points, runs):
    support = np.arange(24).reshape(2, 12)
    (first, _), (second, _) = (train(method, points, support, [0, 1]) for _ in range(2))
    for key, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], tensor), key


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_rows_are_found_again_and_only_by_what_determines_them(method, points, runs):
    rows = run(method, "regression", FewShot(0.05), points, [0, 1], device="cpu")
    stored = {p: p.stat().st_mtime_ns for p in runs.rglob("rows/*.json")}
    assert run(method, "regression", FewShot(0.05), points, [0, 1], device="cpu").equals(rows)
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("rows/*.json")} == stored
    other = dataclasses.replace(method, transfer=dataclasses.replace(BRIEF, learning_rate=1e-4))
    run(other, "regression", FewShot(0.05), points, [0, 1], device="cpu")
    changed = points.assign(yield_strength=points["yield_strength"] + 0.01)
    run(method, "regression", FewShot(0.05), changed, [0, 1], device="cpu")
    assert len(list(runs.rglob("rows/*.json"))) == len(stored) + 2


def test_folds_of_two_sizes(points, runs):
    rows = run(METHODS[0], "regression", CrossValidation(), points, [0, 9], device="cpu")
    assert rows["n_train"].tolist() == [214, 215]
    assert rows["n_test"].tolist() == [24, 23]


def test_missing_device_is_named(points, runs):
    with pytest.raises(ValueError, match="device 'cuda:9' is not available"):
        run(METHODS[0], "regression", FewShot(0.05), points, [0], device="cuda:9")
