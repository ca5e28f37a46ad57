"""Stored results: found by what determines them, checked before they are used, and honest about what failed."""

import dataclasses
import json
import random
import shutil
import warnings

import numpy as np
import pytest
import torch

from xyield import methods, runs, store, training
from xyield.bilevel import BiRPT
from xyield.masks import full_masks
from xyield.measurements import measurements
from xyield.methods import HandTune, sparse_epoch
from xyield.networks import TASKS, Architecture, new_networks
from xyield.runs import run
from xyield.splits import FewShot
from xyield.statistics import summarise
from xyield.store import atomic_path, code_version, read_record, write_record
from xyield.training import (
    PRETRAIN,
    TRANSFER,
    Damaged,
    NoPretraining,
    Pretraining,
    PretrainTransfer,
    TrainingFailed,
    as_tensors,
    fit,
    load_network,
    pretrained,
    save_network,
    tolerated_failures,
)

SMALL = Pretraining(n_simulated=500, architecture=Architecture((4, 4, 4), 8),
                    schedule=dataclasses.replace(PRETRAIN, epochs=2))
BRIEF = dataclasses.replace(TRANSFER, epochs=2)
POINTS = measurements()


def rows_of(method=None, seeds=(0, 1), points=POINTS):
    return run(method or PretrainTransfer(SMALL, BRIEF), "regression", FewShot(0.05), points, seeds, "cpu")


def numbers(rows):
    return rows.drop(columns=["seconds"]).to_json()


def files(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


# keys: what changes when the code changes


@pytest.fixture
def code(monkeypatch):
    "A function that pretends that a module's source was edited."
    edits, source = {}, project._source
    monkeypatch.setattr(project, "_source", lambda name: edits.get(name, source(name)))
    code_version.cache_clear()

    def edit(module, old, new):
        assert old in source(module)
        edits.clear()
        edits[module] = source(module).replace(old, new)
        code_version.cache_clear()

    yield edit
    code_version.cache_clear()


METHODS = {"no": NoPretraining(SMALL.architecture, transfer=BRIEF), "transfer": PretrainTransfer(SMALL, BRIEF),
           "handtune": HandTune(SMALL, BRIEF), "birpt": BiRPT(SMALL, BRIEF)}


@pytest.mark.parametrize(("module", "old", "new", "again", "checkpoints"), [
    ("birpt", "self.epochs_done += 1", "self.epochs_done += 2", {"birpt"}, set()),
    ("handtune", "PRUNED_PER_ROUND = 0.2", "PRUNED_PER_ROUND = 0.3", {"handtune"}, {"pruned1"}),
    ("sparsity", "square = mask.square()", "square = mask * mask", {"handtune", "birpt"}, {"pruned1"}),
    ("simulator", "ALPHA = 1 / 12", "ALPHA = 1 / 13", set(METHODS), {"pretrained", "pruned1"}),
    ("protocols", '"best_epoch": best,', '"best_epoch": best + 1,', set(METHODS), set()),
    ("paper", "dpi=150", "dpi=151", set(), set()),
    ("project", "indent=1", "indent=2", set(), set()),
    ("birpt", "Solve Bi-RPT", "Really solve Bi-RPT", set(), set()),  # a docstring
    ("training", "# name -> [epochs, replicates]", "# a dict, name -> [epochs, replicates]", set(), set()),
])
def test_changed_code_changes_exactly_the_keys_that_rest_on_it(runs, code, monkeypatch, module, old, new, again,
                                                               checkpoints):
    def keys():
        rows = {n: protocols._rows_path(protocols._identity(m, TASKS["regression"], FewShot(0.05), POINTS, [0])).name
                for n, m in METHODS.items()}
        found = {}
        for kind, which in (("pretrained", training), ("pruned1", handtune)):
            with monkeypatch.context() as patch:  # what would be asked of the store
                patch.setattr(which, "stored_networks", lambda config, *_, k=kind: found.update({k: config}))
                with pytest.raises(TypeError):  # it gives nothing back
                    (pretrained(TASKS["regression"], SMALL, [0], "cpu") if kind == "pretrained" else
                     handtune.sparse_pretrained(TASKS["regression"], SMALL, 1, [0], "cpu"))
        return rows, {kind: project.run_key(config) for kind, config in found.items()}

    before = keys()
    code(module, old, new)
    after = keys()
    assert {name for name in METHODS if before[0][name] != after[0][name]} == again
    assert {kind for kind in before[1] if before[1][kind] != after[1][kind]} == checkpoints


def test_a_changed_hyperparameter_data_or_seed_is_another_question(runs):
    rows_of()
    stored = files(runs)
    assert len([f for f in stored if f.startswith("rows/")]) == 1
    changes = [dict(method=PretrainTransfer(SMALL, dataclasses.replace(BRIEF, momentum=0.9))),
               dict(points=POINTS.rename(columns={"dois": "sources"})), dict(seeds=[0, 2]),
               dict(points=POINTS.assign(temperature=POINTS["temperature"] + 1))]
    for n, change in enumerate(changes, start=2):
        rows_of(**change)
        assert len([f for f in files(runs) if f.startswith("rows/")]) == n
    assert len([f for f in files(runs) if f.startswith("checkpoints/")]) == 1  # none of these is about pretraining
    rows_of(PretrainTransfer(dataclasses.replace(SMALL, n_simulated=501), BRIEF))
    assert len([f for f in files(runs) if f.startswith("checkpoints/")]) == 2
    assert stored.items() <= files(runs).items()


def test_a_method_of_ones_own_counts_with_its_code(runs):
    def make(factor):
        @dataclasses.dataclass(frozen=True)
        class Own(NoPretraining):
            def train(self, task, images, yield_strength, support, seeds, **options):
                return NoPretraining.train(self, task, images, factor * yield_strength, support, seeds, **options)
        return Own

    def make_other(factor):
        @dataclasses.dataclass(frozen=True)
        class Own(NoPretraining):
            def train(self, task, images, yield_strength, support, seeds, **options):
                return NoPretraining.train(self, task, images, yield_strength / factor, support, seeds, **options)
        return Own

    Own, other = make(1.0), make_other(1.0)
    rows_of(Own(SMALL.architecture, transfer=BRIEF))
    rows_of(Own(SMALL.architecture, transfer=BRIEF))
    assert len(list(runs.glob("rows/*.json"))) == 1
    rows_of(other(SMALL.architecture, transfer=BRIEF))
    assert len(list(runs.glob("rows/*.json"))) == 2


# corruption


DAMAGES = {
    "truncated": lambda raw, rng: raw[: rng.randrange(len(raw))],
    "empty": lambda raw, rng: b"",
    "flipped": lambda raw, rng: bytes(b ^ 16 if at == len(raw) // 3 else b for at, b in enumerate(raw)),
    "zeros": lambda raw, rng: bytes(len(raw)),
    "longer": lambda raw, rng: raw + b"x",
    "a list": lambda raw, rng: b"[1, 2]",
    "deep": lambda raw, rng: b"[" * 100_000,
    "a pickle": lambda raw, rng: b"\x80\x04cposix\nsystem\n(S'false'\ntR.",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["rows/*.json", "checkpoints/*.safetensors"])
def test_a_damaged_file_is_named_set_aside_and_computed_again(runs, kind, damage):
    good = rows_of()
    rng = random.Random(damage)
    (path,) = runs.glob(kind)
    raw = path.read_bytes()
    bad = DAMAGES[damage](raw, rng)
    path.write_bytes(bad)
    if kind.startswith("checkpoints"):
        for rows in runs.glob("rows/*.json"):
            rows.unlink()
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged .* kept as {path.name}\.damaged"):
        again = rows_of()
    assert numbers(again) == numbers(good)
    assert path.with_name(path.name + ".damaged").read_bytes() == bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numbers(rows_of()) == numbers(good)


def test_every_flipped_byte_of_a_row_file_is_noticed(runs):
    rows_of()
    (path,) = runs.glob("rows/*.json")
    raw = path.read_bytes()
    for at in random.Random(0).sample(range(len(raw)), 300):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        same_meaning = False
        try:
            same_meaning = json.loads(path.read_bytes()) == json.loads(raw)  # a blank became another blank
        except ValueError:
            pass
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert (read_record(path) is None) != same_meaning
        path.unlink(missing_ok=True)


def test_changed_numbers_in_valid_json_are_noticed(runs):
    good = rows_of()
    (path,) = runs.glob("rows/*.json")
    record = json.loads(path.read_text())
    record["rows"][0]["last"] /= 2
    path.write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="checksum"):
        assert numbers(rows_of()) == numbers(good)


def test_a_whole_file_under_the_wrong_name_is_noticed(runs):
    first, second = rows_of(seeds=[0]), rows_of(seeds=[1])
    one, two = sorted(runs.glob("rows/*.json"), key=lambda p: json.loads(p.read_text())["seeds"])
    shutil.copy(one, two)
    with pytest.warns(UserWarning, match=r"its seeds is \[0\]; expected \[1\]"):
        assert numbers(rows_of(seeds=[1])) == numbers(second)
    assert numbers(rows_of(seeds=[0])) == numbers(first)


def test_one_lost_network_of_a_stack_comes_back_with_the_same_bits(runs):
    stack, _ = pretrained(TASKS["regression"], SMALL, [0, 1, 2], "cpu")
    paths = sorted(runs.glob("checkpoints/*.safetensors"))
    before = [(p.read_bytes(), p.stat().st_mtime_ns) for p in paths]
    save_network(paths[1], new_networks(1, [0], Architecture((2, 2, 2), 3)), {"task": "regression", "seed": 1,
                 "architecture": dataclasses.asdict(Architecture((2, 2, 2), 3))})  # whole, but another architecture
    with pytest.warns(UserWarning, match="is damaged"):
        again, _ = pretrained(TASKS["regression"], SMALL, [0, 1, 2], "cpu")
    for name, tensor in stack.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert [(p.read_bytes(), p.stat().st_mtime_ns) for p in paths][::2] == before[::2]


@pytest.mark.parametrize("damage", [*DAMAGES, "none"])
def test_a_damaged_progress_file_costs_time_and_no_bits(runs, tmp_path, damage):
    images, strengths = as_tensors(POINTS)
    support, task, path = np.arange(20)[None], TASKS["regression"], tmp_path / "training.progress"
    options = dict(task=task, schedule=dataclasses.replace(BRIEF, epochs=4, momentum=0.9), seeds=[0])
    whole = new_networks(1, [0])
    expected = fit(whole, images, strengths, support, **options)

    def stop(model, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        fit(new_networks(1, [0]), images, strengths, support, evaluate=stop, progress_path=path, **options)
    if damage != "none":
        path.write_bytes(DAMAGES[damage](path.read_bytes(), random.Random(1)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = new_networks(1, [0])
        history = fit(model, images, strengths, support, progress_path=path, **options)
    assert [w for w in caught if "training.progress is damaged" in str(w.message)] or damage == "none"
    np.testing.assert_array_equal(history["loss"], expected["loss"])
    for name, tensor in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_an_unwritable_store_is_an_error_that_leaves_nothing_half(runs):
    path = runs / "row.json"
    write_record(path, {"mse": 1.0})

    with pytest.raises(OSError, match="No space"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert read_record(path) == {"mse": 1.0}
    assert [p.name for p in runs.iterdir()] == ["row.json"]


def test_a_checkpoint_is_no_pickle(runs, tmp_path):
    marker = tmp_path / "executed"
    path = tmp_path / "network.safetensors"

    class Evil:
        def __reduce__(self):
            return marker.touch, ()

    torch.save(Evil(), path)
    with pytest.raises(Damaged):
        load_network(path)
    assert not marker.exists()


# what goes wrong in training


@dataclasses.dataclass(frozen=True)
class OneDiverges(NoPretraining):
    "The second replicate gets absurd strengths."

    def train(self, task, images, yield_strength, support, seeds, **options):
        if len(seeds) > 1:
            only_second = np.setdiff1d(support[1], np.delete(support, 1, axis=0))
            yield_strength = yield_strength.clone()
            yield_strength[only_second] = 1e30
        return super().train(task, images, yield_strength, support, seeds, **options)


def test_one_diverged_replicate_is_recorded_and_the_others_are_as_without_it(runs):
    calm = rows_of(NoPretraining(SMALL.architecture, transfer=BRIEF), seeds=[0, 1, 2])
    for _ in range(2):  # trained, then read
        with pytest.warns(RuntimeWarning, match=r"seed 1 \(replicate 1\): its .* in epoch 0, step \d of 3"):
            rows = rows_of(OneDiverges(SMALL.architecture, transfer=BRIEF), seeds=[0, 1, 2])
    assert rows["failed"].notna().tolist() == [False, True, False]
    assert rows["last"].isna().tolist() == [False, True, False]
    assert rows["curve"][0] == calm["curve"][0] and rows["curve"][2] == calm["curve"][2]
    cells = summarise(rows, ["task"])
    assert cells["mean"].isna().all() and cells["n_repeats"].eq(2).all()


def test_diverged_pretraining_is_named_as_the_reason(runs):
    hot = dataclasses.replace(SMALL, schedule=dataclasses.replace(SMALL.schedule, learning_rate=1e38))
    with pytest.warns(RuntimeWarning, match=r"pretraining, regression, seed 0 .*epoch 0, step"):
        rows = rows_of(PretrainTransfer(hot, BRIEF))
    assert rows["failed"].notna().all()
    with pytest.raises(TrainingFailed, match="pretraining, regression, seed 0"):
        pretrained(TASKS["regression"], hot, [0], "cpu")


def test_a_pretraining_that_fails_is_not_taken_for_a_replicate_that_fails(runs):
    hot = dataclasses.replace(SMALL, schedule=dataclasses.replace(SMALL.schedule, learning_rate=1e38))
    with tolerated_failures() as failures, pytest.raises(TrainingFailed):
        pretrained(TASKS["regression"], hot, [0, 1], "cpu")
    assert failures == {}


def test_masks_that_prune_everything_are_a_failure(runs):
    greedy = BiRPT(SMALL, dataclasses.replace(BRIEF, epochs=4), gamma=1.0)
    with pytest.warns(RuntimeWarning) as caught:
        rows = rows_of(greedy)
    assert [("every weight of m_s.features.0 is pruned in epoch 0" in str(w.message)) for w in caught] == [True, True]
    assert rows["failed"].notna().all()


def test_a_layer_of_zeros_is_a_failure():
    images, strengths = as_tensors(POINTS)
    model = new_networks(1, [0, 1])
    masks = full_masks(model)
    masks["hidden.weight"][1].zero_()
    with pytest.raises(TrainingFailed, match=r"seed 1 \(replicate 1\): every weight of hidden is pruned in epoch 0"):
        fit(model, images, strengths, np.arange(20).reshape(2, 10), TASKS["regression"], BRIEF, [0, 1],
            epoch_function=sparse_epoch(masks))


# determinism


def test_the_same_question_gives_the_same_bits_whatever_was_asked_before(tmp_path, monkeypatch):
    found = []
    for n, before in enumerate([[], [[0]], [[0, 1], [2]]]):
        monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / str(n)))
        for seeds in before:
            rows_of(BiRPT(SMALL, BRIEF, lower_every=1), seeds)
        found.append(numbers(rows_of(BiRPT(SMALL, BRIEF, lower_every=1), [0, 1, 2])))
    assert found[0] == found[1] == found[2]


def test_the_global_random_state_does_not_matter(runs, tmp_path, monkeypatch):
    first = rows_of()
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "other"))
    torch.manual_seed(99)
    assert numbers(rows_of()) == numbers(first)
