"""What every method has to be: replicates independent, the same seed the same bits, stored records found again."""

import copy
import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.worlds import SCHEDULE, SETTINGS, Plane
from xyield import testbed
from xyield.alloys import as_yield_strengths
from xyield.bilevel import BiRPT
from xyield.image_world import ImagePairs
from xyield.masks import full_masks, prune_smallest, sparsity
from xyield.measurements import measurements, strength_class
from xyield.methods import (
    Settings,
    alternation,
    bi_rpt,
    changed,
    hand_tune,
    mix_training,
    no_pretraining,
    pretrain_transfer,
    random_masks,
)
from xyield.networks import Architecture, new_networks, predict
from xyield.runs import ALLOY_SETTINGS, TASKS, Alloys, run
from xyield.splits import CrossValidation, FewShot
from xyield.training import Hardware, Schedule, Stage, load_network, trained

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


def test_the_seconds_of_a_run_are_those_of_all_its_stages_but_pretraining(runs):
    chain = hand_tune(BRIEF, 1, 2)
    seconds = [trained(chain[:n], WORLD, [0, 1])["seconds"] for n in (3, 4, 5)]
    assert run(chain, WORLD, [0, 1])["seconds"].tolist() == pytest.approx(2 * [sum(seconds) / 2])


def test_seeds_share_a_pretrained_network_or_have_their_own(runs):
    source = pretrain_transfer(BRIEF)[:1]
    for n, world in ((1, WORLD), (2, dataclasses.replace(WORLD, n_pretrained=2))):
        run(pretrain_transfer(BRIEF), world, [0, 1, 2])
        state = load_network(source, world, [0, 1, 2])[0].hidden.weight
        assert len({tuple(w.flatten().tolist()) for w in state}) == n


def test_no_stack_trains_a_network_that_another_has_pretrained(runs):
    world, chain = dataclasses.replace(WORLD, n_pretrained=3), pretrain_transfer(BRIEF)
    run(chain, world, [0, 1, 2])
    before = set(runs.rglob("networks/*.safetensors"))
    run(chain, world, [4])  # starts from one of the three
    assert len(set(runs.rglob("networks/*.safetensors")) - before) == 1


def test_folds_of_two_sizes(runs):
    rows = run(METHODS["none"], dataclasses.replace(WORLD, protocol=CrossValidation()), [0, 9])
    assert rows["n_train"].tolist() == [214, 215]
    assert rows["n_test"].tolist() == [24, 23]


def test_networks_one_by_one_predict_what_they_predict_together():
    "With statistics, scales and shifts of batch normalisation that are not those of the start."
    network = new_networks(3, [0, 1, 2], Architecture((3, 4, 5), 8))
    generator = torch.Generator().manual_seed(0)
    for norm in network.features[1::3]:
        for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
            tensor.uniform_(0.5, 2, generator=generator)
    images = torch.randn(50, 2, 9, 18, generator=generator)
    together = copy.deepcopy(network).double().eval()(images[:, None].double()).detach()
    for training in (True, False):
        found = predict(network.train(training), images, batch_size=16)
        torch.testing.assert_close(found.double(), together, rtol=1e-5, atol=1e-5)
        assert network.training == training


@pytest.mark.parametrize("grid", [(9, 18), (32, 32)])
def test_predictions_in_this_memory_layout_do_not_crash(root, grid):
    "A convolution of the CPU once did for some sizes, and took the process with it."
    code = f"""if True:
        import torch
        from xyield.networks import Architecture, new_networks, predict
        for n in (1, 7, 238, 1024):
            images = torch.randn(n, 2, *{grid})
            assert predict(new_networks(1, [0, 1], Architecture(padding=1, grid={grid})), images).isfinite().all()
    """
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_missing_device_is_named():
    with pytest.raises(ValueError, match="device 'cuda:9' is not available"):
        Hardware("cuda:9")


# the engine against loops by hand, in a world of points on a plane


def epoch_of(world, domain, epoch, stage):
    return world.batches(domain, [0], epoch, stage.schedule.batch_size)


def source_batches(world, epoch, size):
    for again in itertools.count(1):
        yield from world.batches("source", [0], epoch + 100_000 * again, size)


def state_of(record):
    return {name: torch.from_numpy(value) for name, value in record["network"].items()}


SCHEDULES = {"momentum and decay": Schedule(3, 8, 0.2, momentum=0.5, weight_decay=0.01),
             "Adam, warmed up": Schedule(4, 5, 0.05, "adam", warmup_epochs=2),
             "steps": Schedule(5, 16, 0.3, decay_every=2)}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("mix", [False, True])
def test_training_is_the_plain_loop(runs, schedule, mix):
    world = Plane()
    chain = mix_training(Settings(schedule, schedule, SETTINGS.bilevel)) if mix else (Stage("target", schedule),)
    record, network = trained(chain, world, [0]), world.network([0])
    kind = torch.optim.Adam if schedule.optimizer == "adam" else torch.optim.SGD
    options = {} if schedule.optimizer == "adam" else {"momentum": schedule.momentum,
                                                       "weight_decay": schedule.weight_decay}
    optimizer, losses = kind(network.parameters(), schedule.learning_rate, **options), []
    for epoch in range(schedule.epochs):
        optimizer.param_groups[0]["lr"], of_epoch = schedule.rate(epoch), []
        source = source_batches(world, epoch, schedule.batch_size)
        for batch in epoch_of(world, "target", epoch, chain[0]):
            loss = world.loss(network, batch, "target")
            if mix:
                loss = loss + world.loss(network, next(source), "source")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            of_epoch.append(loss.item())
        losses.append(np.mean(of_epoch))
    np.testing.assert_allclose(record["history"]["loss"][:, 0], losses, rtol=1e-5)
    torch.testing.assert_close(state_of(record), dict(network.state_dict()))


@pytest.mark.parametrize("changes", [{}, {"lower_every": 2}, {"lower_steps": 2, "lower_mask_rate": 0.5}])
def test_the_bilevel_stage_is_the_loop_of_its_chapter(runs, changes):
    settings, world = changed(SETTINGS, {"transfer": {"epochs": 4, "decay_every": 2}, "bilevel": changes}), Plane()
    pretrain, stage = bi_rpt(settings)
    record, (network, _) = trained((pretrain, stage), world, [0]), load_network((pretrain,), world, [0])
    optimizer = torch.optim.SGD(network.train().parameters(), 0.1, 0.5, weight_decay=1e-3)
    b = settings.bilevel
    method = BiRPT(network, lambda model, batch: world.loss(model, batch, "source"),
                   lambda model, batch: world.loss(model, batch, "target"), optimizer, gamma=b.gamma,
                   mask_rate=b.mask_rate, lower_rate=b.lower_rate, **changes)
    for epoch in range(4):
        source = source_batches(world, epoch, b.source_batch)
        optimizer.param_groups[0]["lr"] = stage.schedule.rate(epoch)
        for batch in epoch_of(world, "target", epoch, stage):
            drawn = list(itertools.islice(source, b.lower_steps)) if method.needs_source else None
            method.step(drawn[0] if drawn and b.lower_steps == 1 else drawn, batch)
        method.end_epoch()
    for name, layers in method.sparsity().items():
        assert {k: float(v[0]) for k, v in record["masks"][name].items()} == pytest.approx(layers)
    method.finish()
    torch.testing.assert_close(state_of(record), dict(network.state_dict()))


def test_the_rate_of_every_epoch():
    cosine, warm = Schedule(4, 1, 2.0), Schedule(6, 1, 3.0, warmup_epochs=2)
    steps = Schedule(5, 1, 1.0, decay_every=2, warmup_epochs=1)
    half = [0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert [cosine.rate(e) for e in range(4)] == pytest.approx([2 * h for h in half])
    assert [warm.rate(e) for e in range(6)] == pytest.approx([1.5, 3.0, *(3 * h for h in half)])
    assert [steps.rate(e) for e in range(5)] == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.1])


IMAGES = ImagePairs(testbed.Testbed(items="digits", source_per_class=1, heldout_per_class=1, channels=(2, 2, 2, 2)))
QUICK = changed(BRIEF, {part: {"epochs": 1, "batch_size": 128} for part in ("pretrain", "transfer")})


@pytest.mark.parametrize(("world", "settings", "seeds"), [(WORLD, BRIEF, [0, 1]), (IMAGES, QUICK, [0])],
                         ids=["alloys", "images"])
def test_a_lower_level_that_does_nothing_leaves_no_trace(runs, world, settings, seeds):
    "Neither in the weights nor in the running statistics of batch normalisation, to which the source would look odd."
    settings = changed(settings, {"bilevel": {"lower_rate": 0.0, "lower_every": 1}})
    plain, both = (state_of(trained(c, world, seeds)) for c in (pretrain_transfer(settings), alternation(settings)))
    torch.testing.assert_close(both, plain, rtol=1e-4, atol=1e-6)
    assert any("running_mean" in name for name in plain)
    assert any((plain[name] != tensor).any() for name, tensor in
               load_network(pretrain_transfer(settings)[:1], world, seeds)[0].state_dict().items())


def test_every_replicate_is_pruned_by_itself_and_what_is_zero_stays_zero(runs):
    settings = changed(BRIEF, {"transfer": {"momentum": 0.9, "weight_decay": 0.1}})
    chain = hand_tune(settings, 1, 2)
    for n in range(2, len(chain) + 1):
        total = trained(chain[:n], WORLD, [0, 1, 2])["sparsity"]["total"]
        rounds = sum(stage.zeros == "prune" for stage in chain[:n])
        assert total[0] == pytest.approx(1 - 0.8**rounds, abs=2e-3)
        assert total.tolist() == 3 * [total[0]]  # the same number of each, to the weight
    first, last = (load_network(chain[:n], WORLD, [0, 1, 2])[0] for n in (2, len(chain)))
    for name in ("features.0.weight", "hidden.weight"):
        before, after = first.get_parameter(name) == 0, last.get_parameter(name) == 0
        assert (before <= after).all() and before.any() and (before < after).any()


def test_random_masks_have_as_many_zeros_in_each_layer_at_other_places(runs):
    settings = changed(BRIEF, {"bilevel": {"gamma": 3e-5, "lower_every": 1}})
    learned, drawn = bi_rpt(settings), random_masks(settings)
    records = [trained(chain, WORLD, [0, 1]) for chain in (learned, drawn)]
    for layer, values in records[0]["sparsity"].items():
        np.testing.assert_array_equal(records[1]["sparsity"][layer], values)
    assert 0.01 < records[0]["sparsity"]["total"].min() < 0.99
    zeros = [record["network"]["hidden.weight"] == 0 for record in records]
    for k in range(2):
        overlap = (zeros[0][k] & zeros[1][k]).sum() / zeros[0][k].sum()
        assert overlap == pytest.approx(zeros[0][k].mean(), abs=0.05)  # that of chance
    assert (zeros[1][0] != zeros[1][1]).any()


def test_zeros_of_one_replicate_are_not_those_of_another():
    network = WORLD.network([0, 1])
    network.hidden.weight.data[1] *= 1e-3  # smaller than all of the first
    masks = prune_smallest(network, full_masks(network, WORLD.masked), replicates=2)
    zeros = sparsity(masks, 2)["total"]
    assert zeros == pytest.approx([0.2, 0.2], abs=1e-3)


def test_seeds_start_from_their_pretrained_network(runs):
    world = dataclasses.replace(WORLD, n_pretrained=2)
    source = pretrain_transfer(BRIEF)[:1]
    stack, _ = load_network(source, world, [0, 1])
    network, _ = load_network(source, world, [3, 0, 4])
    for name, tensor in network.state_dict().items():
        if tensor.ndim:
            first, second = stack.state_dict()[name].chunk(2)
            assert torch.equal(tensor, torch.cat([second, first, first])), name
    assert not torch.equal(stack.hidden.weight[0], stack.hidden.weight[1])


@pytest.mark.parametrize("task", TASKS)
def test_a_row_says_what_the_predictions_say(runs, task):
    chain = no_pretraining(changed(BRIEF, {"transfer": {"epochs": 6, "learning_rate": 0.1}}))
    rows = run(chain, dataclasses.replace(WORLD, task=task), [0, 1, 2])
    truth = as_yield_strengths(WORLD.points["yield_strength"])
    for row in rows.to_dict("records"):
        for which, value in (("prediction_best", row["best"]), ("prediction_last", row["last"])):
            found, test = np.array(row[which]), row["test"]
            expected = np.mean((found[test] - truth[test]) ** 2) if task == "regression" else \
                100 * np.mean(found[test] == strength_class(truth[test]))
            assert value == pytest.approx(expected, rel=1e-4)
        assert row["curve"][-1] == row["last"] and row["curve"][row["best_epoch"]] == row["best"]
        assert row["best"] == (min if task == "regression" else max)(row["curve"])
        train, test = WORLD.protocol.split(WORLD.points, row["seed"])
        assert row["test"] == test.tolist() and row["n_train"] == len(train)
    assert rows["best"].ne(rows["last"]).any()


# several processes


SHARED = {"plain": (Stage("source", SCHEDULE), Stage("target", SCHEDULE)), "mix": mix_training(SETTINGS),
          "bi-rpt": bi_rpt(SETTINGS, lower_steps=2, lower_mask_rate=0.5)}
WORLDS = {"lists": Plane(), "loaders": Plane(loaders=True)}


def test_two_processes_do_what_one_does_with_whole_batches(runs, root):
    "To rounding: gradients are averaged, and each process sees its half of each batch."
    code = ("from tests.test_methods import *; "
            "[trained(c, w, [0], Hardware('cpu', processes=2)) for c in SHARED.values() for w in WORLDS.values()]")
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for chain, world in itertools.product(SHARED.values(), WORLDS.values()):
        alone = trained(chain, world, [0], Hardware("cpu"))
        together = trained(chain, world, [0], Hardware("cpu", processes=2))
        np.testing.assert_allclose(together["history"]["loss"], alone["history"]["loss"], rtol=1e-4)
        one, two = state_of(alone), state_of(together)
        assert one.pop("seen") == 2 * two.pop("seen") > 0
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
