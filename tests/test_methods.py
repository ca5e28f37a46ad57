"""What every method has to be: replicates independent, the same seed the same bits, stored records found again."""

import dataclasses

import numpy as np
import pytest
import torch

from xyield.measurements import measurements
from xyield.methods import bi_rpt, changed, hand_tune, mix_training, no_pretraining, pretrain_transfer
from xyield.networks import Architecture
from xyield.runs import ALLOY_SETTINGS, TASKS, Alloys, run
from xyield.splits import CrossValidation, FewShot
from xyield.training import Hardware, load_network, trained

BRIEF = changed(ALLOY_SETTINGS, {"pretrain": {"epochs": 2}, "transfer": {"epochs": 2}})
WORLD = Alloys(measurements(), FewShot(0.05), n_simulated=500, architecture=Architecture((4, 4, 4), 8))
METHODS = {"none": no_pretraining(BRIEF), "mix": mix_training(BRIEF), "transfer": pretrain_transfer(BRIEF),
           "hand-tune": hand_tune(BRIEF, 1, 1), "bi-rpt": bi_rpt(BRIEF, lower_every=1),
           "bi-rpt, Eq. 4": bi_rpt(BRIEF, lower_steps=2, lower_mask_rate=1.0)}
each_method = pytest.mark.parametrize("chain", METHODS.values(), ids=METHODS)


@pytest.mark.parametrize("task", TASKS)
@each_method
def test_three_together_are_three_alone(chain, task, runs):
    world = dataclasses.replace(WORLD, task=task)
    together = trained(chain, world, [0, 1, 2])["history"]["loss"]
    for k in range(3):
        alone = trained(chain, world, [k])["history"]["loss"]
        np.testing.assert_allclose(alone[:, 0], together[:, k], rtol=2e-3)


@each_method
def test_same_seed_same_bits(chain, runs, tmp_path, monkeypatch):
    first, _ = load_network(chain, WORLD, [0, 1])
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "other"))
    torch.manual_seed(99)
    second, _ = load_network(chain, WORLD, [0, 1])
    for key, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], tensor), key


@each_method
def test_rows_are_found_again_and_only_by_what_determines_them(chain, runs):
    rows = run(chain, WORLD, [0, 1])
    stored = {p: p.stat().st_mtime_ns for p in runs.rglob("*.safetensors")}
    assert run(chain, WORLD, [0, 1]).equals(rows)
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*.safetensors")} == stored
    last = dataclasses.replace(chain[-1], schedule=dataclasses.replace(chain[-1].schedule, learning_rate=1e-4))
    run((*chain[:-1], last), WORLD, [0, 1])
    points = WORLD.points.assign(yield_strength=WORLD.points["yield_strength"] + 0.01)
    run(chain, dataclasses.replace(WORLD, points=points), [0, 1])
    targets = sum(stage.domain == "target" for stage in chain)  # what comes before the changed stage is shared
    assert len(list(runs.rglob("*.safetensors"))) == len(stored) + 1 + targets


def test_stages_that_begin_alike_are_trained_once(runs):
    for n_t in (0, 1, 2):
        trained(hand_tune(BRIEF, 1, n_t), WORLD, [0])
    assert len(list(runs.rglob("*.safetensors"))) == 2 + 3


def test_seeds_share_a_pretrained_network_or_have_their_own(runs):
    source = pretrain_transfer(BRIEF)[:1]
    for n, world in ((1, WORLD), (2, dataclasses.replace(WORLD, n_pretrained=2))):
        run(pretrain_transfer(BRIEF), world, [0, 1, 2])
        state = load_network(source, world, [0, 1, 2])[0].hidden.weight
        assert len({tuple(w.flatten().tolist()) for w in state}) == n


def test_folds_of_two_sizes(runs):
    rows = run(METHODS["none"], dataclasses.replace(WORLD, protocol=CrossValidation()), [0, 9])
    assert rows["n_train"].tolist() == [214, 215]
    assert rows["n_test"].tolist() == [24, 23]


def test_missing_device_is_named():
    with pytest.raises(ValueError, match="device 'cuda:9' is not available"):
        Hardware("cuda:9")
