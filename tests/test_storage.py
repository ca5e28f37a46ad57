"""Stored networks: found by what determines them, checked before they are used, and honest about what failed."""

import dataclasses
import functools
import importlib
import random
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import nn

from xyield import store, testbed, training
from xyield.image_runs import run_images
from xyield.image_world import ImagePairs
from xyield.masks import full_masks
from xyield.measurements import measurements
from xyield.methods import bi_rpt, changed, hand_tune, mix_training, no_pretraining, pretrain_transfer
from xyield.networks import Architecture
from xyield.runs import ALLOY_SETTINGS, Alloys, run
from xyield.splits import CrossValidation, FewShot
from xyield.statistics import summarise
from xyield.store import Damaged, atomic_path, code_version, load_record, record_path, save_record
from xyield.training import Hardware, Schedule, Stage, World, chain_identity, fit, load_network, trained

QUICK = {"epochs": 1, "batch_size": 128}
IMAGES_BRIEF = changed(ALLOY_SETTINGS, {"pretrain": QUICK, "transfer": QUICK, "bilevel": {"source_batch": 32}})
BRIEF = changed(ALLOY_SETTINGS, {"pretrain": {"epochs": 2}, "transfer": {"epochs": 2}})
POINTS = measurements()
WORLD = Alloys(POINTS, FewShot(0.05), n_simulated=500, architecture=Architecture((4, 4, 4), 8))
TINY = testbed.Testbed(items="digits", source_per_class=1, heldout_per_class=1, channels=(2, 2, 2, 2))
TRANSFER = pretrain_transfer(BRIEF)
ALTERNATING = bi_rpt(BRIEF, lower_every=1)


def rows_of(chain=TRANSFER, world=WORLD, seeds=(0, 1)):
    return run(chain, world, seeds)


def image_rows(chain=None, world=TINY, seeds=(0,)):
    return run_images({"it": chain or ASKED["images"][1]}, world, seeds)


def numbers(rows):
    return rows.drop(columns=["seconds"]).to_json()


def files(folder, ending=".safetensors"):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob(f"*{ending}")}


def path_of(chain=TRANSFER, world=WORLD, seeds=(0, 1)):
    return record_path(chain_identity(chain, world, list(seeds)))


# keys: what changes when the code changes


@pytest.fixture
def code(monkeypatch):
    "A function that pretends that a module's source was edited."
    edits, source = {}, store._source
    monkeypatch.setattr(store, "_source", lambda name: edits.get(name, source(name)))
    code_version.cache_clear()

    def edit(module, old, new):
        assert source(module).count(old) >= 1
        edits.clear()
        edits[module] = source(module).replace(old, new)
        code_version.cache_clear()

    yield edit
    code_version.cache_clear()


@dataclasses.dataclass(frozen=True)
class Line(World):
    "A world of one's own."

    slope: float = 2.0

    def network(self, seeds):
        torch.manual_seed(seeds[0])
        return nn.Linear(1, 1)

    def batches(self, domain, seeds, epoch, batch_size):
        x = torch.linspace(-1, 1, 12)[:, None]
        return [(x, self.slope * x)]

    def loss(self, network, batch, domain):
        return F.mse_loss(network(batch[0]), batch[1])

    def evaluate(self, network, domain, seeds, history):
        return {}


METHODS = {"pretrained": TRANSFER[:1], "pruned": hand_tune(BRIEF, 1, 0)[:2], "no": no_pretraining(BRIEF),
           "mix": mix_training(BRIEF), "transfer": TRANSFER, "handtune": hand_tune(BRIEF, 1, 1), "birpt": ALTERNATING}
WORLDS = {"alloys": WORLD, "images": ImagePairs(TINY), "own": Line()}
ALL = {(kind, name) for kind in WORLDS for name in METHODS}
OURS = {(kind, name) for kind, name in ALL if kind != "own"}
ALLOYS = {key for key in ALL if key[0] == "alloys"}
TARGETS = {key for key in ALL if key[1] not in ("pretrained", "pruned")}
IMAGES = OURS - ALLOYS
BOTH = {(kind, name) for kind, name in ALL if name in ("mix", "birpt")}  # whose stages are in `methods`


def keys():
    return {(kind, name): store.digest(chain_identity(chain, world, [0]))
            for kind, world in WORLDS.items() for name, chain in METHODS.items()}


keys_of_the_code_as_it_is = functools.cache(keys)


@pytest.mark.parametrize(("module", "old", "new", "again"), [
    ("training", "done // self.decay_every", "epoch // self.decay_every", ALL),
    ("masks", "PRUNED_PER_ROUND = 0.2", "PRUNED_PER_ROUND = 0.3", ALL),
    ("networks", "value.chunk(replicates)[i]", "value.chunk(replicates)[0]", ALL),
    ("methods", "epochs // 2", "epochs // 3", BOTH),
    ("bilevel", "self.epochs += 1", "self.epochs += 2", BOTH),
    ("splits", "random_state=seed", "random_state=seed + 1", ALLOYS & TARGETS),
    ("simulator", "ALPHA = 1 / 12", "ALPHA = 1 / 13", ALLOYS),
    ("space", "default_rng(seed)", "default_rng(seed + 1)", ALLOYS),
    ("pseudo_images", "GRID_SHAPE = (9, 18)", "GRID_SHAPE = (9, 19)", ALLOYS),
    ("alloy_world", '"best_epoch": best', '"best_epoch": best + 1', ALLOYS),
    ("runs", "STACK = 10", "STACK = 5", set()), ("image_runs", '"lower_rate": 0.05', '"lower_rate": 0.06', set()),
    ("testbed", "0.08, 0.12", "0.09, 0.12", IMAGES), ("image_world", "100 * torch.cat", "99 * torch.cat", IMAGES),
    ("statistics", "stats.sem", "np.std", set()), ("report", "dpi=150", "dpi=151", set()),
    ("peers", "noise0=[0.02]", "noise0=[0.03]", set()), ("store", "indent=1", "indent=2", set()),
    ("bilevel", "The present gates", "All present gates", set()),  # a docstring
    ("training", "  # over all processes", "", set()),
    ("splits", '"One random split', '"A random split', set()),
])
def test_changed_code_changes_exactly_the_keys_that_rest_on_it(code, module, old, new, again):
    before = keys_of_the_code_as_it_is()
    code(module, old, new)
    after = keys()
    assert {key for key in ALL if before[key] != after[key]} == again


def test_a_changed_hyperparameter_data_or_seed_is_another_question(runs):
    rows_of()
    stored = files(runs)
    assert len(stored) == 2
    replace, later = dataclasses.replace, changed(BRIEF, {"transfer": {"momentum": 0.9}})
    changes = [dict(chain=pretrain_transfer(later)), dict(seeds=[0, 2]), dict(seeds=[0]), dict(seeds=[1, 0]),
               dict(world=replace(WORLD, protocol=FewShot(0.06))),
               dict(world=replace(WORLD, protocol=CrossValidation())),
               dict(world=replace(WORLD, points=POINTS.rename(columns={"dois": "sources"}))),
               dict(world=replace(WORLD, points=POINTS.assign(temperature=POINTS["temperature"] + 1)))]
    for n, change in enumerate(changes, start=3):
        rows_of(**change)
        assert len(files(runs)) == n, change  # none of these is about pretraining
    for change in ({"n_simulated": 501}, {"elements": "table5"}, {"layout": "atomic"}, {"task": "classification"},
                   {"architecture": Architecture((4, 4, 5), 8)}):
        if change.get("layout", "rptr") == "rptr" and change.get("elements", "table4") == "table4":
            rows_of(world=replace(WORLD, **change))
            n += 2
        assert len(files(runs)) == n, change
    assert stored.items() <= files(runs).items()


@pytest.mark.parametrize("change", [
    dict(settings={"pretrain": {"epochs": 3}}), dict(settings={"transfer": {"weight_decay": 0.1}}),
    dict(settings={"bilevel": {"gamma": 1e-3}}), dict(settings={"bilevel": {"epsilon_decay": 0.5}}),
    dict(data={"severity": 3, "source": "ImageNet-C"}), dict(data={"source_per_class": 2}),
    dict(data={"items": "fashion"}),
    dict(data={"target": "CUB-200 (10-shot)"}), dict(data={"channels": (2, 2, 2, 4)}), dict(seeds=[1])])
def test_a_changed_hyperparameter_data_or_seed_of_images_is_another_question(change):
    settings, world = changed(BRIEF, change.get("settings", {})), dataclasses.replace(TINY, **change.get("data", {}))
    assert path_of(ALTERNATING, ImagePairs(TINY), [0]) != path_of(
        bi_rpt(settings, lower_every=1), ImagePairs(world), change.get("seeds", [0]))


@pytest.mark.parametrize("kind", WORLDS)
def test_hardware_that_changes_the_digits_is_another_question(kind):
    keys = [store.digest(chain_identity(TRANSFER, WORLDS[kind], [0], hardware)) for hardware in (
        Hardware("cpu"), Hardware("cpu", threads=2), Hardware("cpu", processes=2), Hardware("cpu", precision="bf16"))]
    assert len(set(keys)) == 4
    assert store.digest(chain_identity(TRANSFER, WORLDS[kind], [0], Hardware("cpu:0"))) == keys[0]


@pytest.mark.parametrize(("package", "again"), [("torch", set(WORLDS)), ("numpy", set(WORLDS)), ("timm", {"images"}),
                                                ("torchvision", {"images"}), ("scikit-learn", set(WORLDS)),
                                                ("matplotlib", set())])
def test_another_arithmetic_library_is_another_question(monkeypatch, package, again):
    def keys():
        return {kind: store.digest(chain_identity(TRANSFER, world, [0])) for kind, world in WORLDS.items()}

    before, version = keys(), store._package_version
    monkeypatch.setattr(store, "_package_version", lambda name: "9.9" if name == package else version(name))
    after = keys()
    assert {kind for kind in WORLDS if before[kind] != after[kind]} == again


def own(old="", new=""):
    "A method and a world of one's own, as a new process would import them after an edit."
    assert old in OWN
    code = {"__name__": "somebody's"}
    exec(OWN.replace(old, new), code)
    return code


OWN = '''
import dataclasses
from xyield.methods import no_pretraining
from xyield.runs import Alloys
from xyield.training import PlainStep, Stage

FACTOR = 1.0
CLIPS = {"gradient": 100.0, "others": [1, 2]}


def scaled(strengths):
    return FACTOR * strengths


class ClippedStep(PlainStep):
    "A step that does not trust large losses."

    def __call__(self, batch, source):
        loss = self.world.loss(self.network, batch, self.domain)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss.clamp(max=CLIPS["gradient"]).sum())
        self.optimizer.step()
        return loss.detach()


@dataclasses.dataclass(frozen=True)
class Clipped(Stage):
    def step(self, wrapped, network, world, optimizer, accelerator):
        return ClippedStep(wrapped, world, self.domain, optimizer, accelerator)


@dataclasses.dataclass(frozen=True, eq=False)
class Scaled(Alloys):
    "Alloys with other strengths."

    offset: float = 0.0

    def data(self, domain, seeds):
        images, strengths, support = super().data(domain, seeds)
        return images, scaled(strengths) + self.offset, support
'''


@pytest.mark.parametrize(("old", "new"), [
    ("FACTOR = 1.0", "FACTOR = 1.5"), ("FACTOR * strengths", "strengths / 2"),
    (") + self.offset", ") - self.offset - 0.1"),
    ("clamp(max=", "clamp(min="), ("self.optimizer.step()", "[self.optimizer.step() for _ in range(2)]"),
    ("100.0", "0.001"), ("[1, 2]", "[1, 3]")])
def test_a_method_and_a_world_of_ones_own_count_with_their_code(runs, old, new):
    found = []
    for code in (own(), own(old, new), own()):
        chain = (code["Clipped"]("target", BRIEF.transfer),)
        found.append(numbers(rows_of(chain, code["Scaled"](POINTS, FewShot(0.05), architecture=WORLD.architecture))))
    assert len(files(runs)) == 2
    assert found[0] == found[2]
    assert found[0] != found[1] or new == "[1, 3]"  # nobody can know that it is not used


MANY = '''
import functools
import helpers_of_ones_own as helpers

def times(n):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*arguments):
            return n * function(*arguments)
        return wrapper
    return decorate

@functools.cache
def table():
    return {1: 2}

@times(3)
def decorated(x):
    return table()[x]

def difference(*, low=1, high=2):
    return high - low

pair = (lambda x: x + 5, lambda x: x - 5)
half = functools.partial(decorated, 8)

class Layers:
    widths = [8, 16]

    class Inner:
        depth = 6

    @functools.cached_property
    def total(self):
        return 7

def f(x):
    try:
        return helpers.square(decorated(x)) + difference(high=x) + pair[0](x) + half() + Layers().total
    except KeyError:
        return 9
'''


@pytest.mark.parametrize(("old", "new"), [
    ("@times(3)", "@times(4)"), ("return n * ", "return n + "), ("{1: 2}", "{1: 3}"), ("low=1", "low=0"),
    ("low=1, high=2", "high=1, low=2"), ("x - 5", "x - 6"), ("decorated, 8", "decorated, 9"), ("[8, 16]", "[8, 17]"),
    ("depth = 6", "depth = 5"), ("return 7", "return 8"), ("except KeyError", "except ValueError"),
    ("return 9", "return 1"),
    ("x * x", "x * x * x"), ("SHIFT = 1", "SHIFT = 2")])
def test_code_of_ones_own_is_followed_wherever_it_leads(monkeypatch, tmp_path, old, new):
    helpers = "SHIFT = 1\n\ndef square(x):\n    return x * x + SHIFT\n\ndef unused():\n    return 4\n"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def key(*change):
        (tmp_path / "helpers_of_ones_own.py").write_text(helpers.replace(*change))
        sys.modules.pop("helpers_of_ones_own", None)
        importlib.invalidate_caches()
        exec(MANY.replace(*change), code := {"__name__": "somebody's"})
        return store.digest(store.foreign_code(code["f"]))

    assert MANY.count(old) + helpers.count(old) == 1
    assert key(old, new) != key("", "")
    assert key("return 4", "return 5") == key("", "")
    sys.modules.pop("helpers_of_ones_own", None)


@pytest.mark.parametrize(("old", "new"), [
    ("A step that does not trust large losses", "Careful"), ("FACTOR = 1.0", "FACTOR = 1.0  # a number"),
    ("\n\n\n", "\n\n\n\n")])
def test_a_comment_in_code_of_ones_own_costs_nothing(old, new):
    before, after = ([code["Clipped"]("target", BRIEF.transfer), code["Scaled"](POINTS, FewShot(0.05))]
                     for code in (own(), own(old, new)))
    assert path_of((before[0],), before[1]) == path_of((after[0],), after[1])


def test_a_field_of_ones_own_is_in_the_key():
    scaled = own()["Scaled"]
    assert path_of(world=scaled(POINTS, FewShot(0.05))) != path_of(world=scaled(POINTS, FewShot(0.05), offset=0.1))
    assert path_of(world=scaled(POINTS, FewShot(0.05))) != path_of(world=Alloys(POINTS, FewShot(0.05)))

    @dataclasses.dataclass(frozen=True)
    class Halves(ImagePairs):
        side: int = 0

    worlds = ImagePairs(TINY), Halves(TINY), Halves(TINY, side=1)
    assert len({path_of(world=world, seeds=[0]) for world in worlds}) == 3
    assert path_of(world=ImagePairs(TINY)) == path_of(world=ImagePairs(TINY, workers=3))  # who decodes does not matter


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
ASKED = {"alloys": (rows_of, TRANSFER, WORLD, [0, 1]),
         "images": (image_rows, pretrain_transfer(IMAGES_BRIEF), ImagePairs(TINY), [0])}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("stage", ["first", "last"])
@pytest.mark.parametrize("kind", ASKED)
def test_a_damaged_file_is_named_set_aside_and_computed_again(runs, kind, stage, damage):
    ask, *question = ASKED[kind]
    good, rng, last = ask(), random.Random(damage), path_of(*question)
    (first,) = (p for p in runs.glob("networks/*.safetensors") if p != last)
    path = last if stage == "last" else first
    bad = DAMAGES[damage](path.read_bytes(), rng)
    path.write_bytes(bad)
    if stage == "first":
        last.unlink()
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged .* kept as {path.name}\.damaged"):
        again = ask()
    assert numbers(again) == numbers(good)
    assert path.with_name(path.name + ".damaged").read_bytes() == bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numbers(ask()) == numbers(good)


@pytest.mark.parametrize("kind", ASKED)
def test_every_flipped_byte_of_a_record_is_noticed(runs, kind):
    ask, *question = ASKED[kind]
    ask()
    path, about = path_of(*question), chain_identity(*question)
    raw = path.read_bytes()
    rng, header = random.Random(0), 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for at in rng.sample(range(header), 150) + rng.sample(range(header, len(raw)), 150):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :])
        with pytest.raises(Damaged):
            load_record(path, about)


def test_changed_numbers_in_a_whole_file_are_noticed(runs):
    good, path = rows_of(), path_of()
    raw = path.read_bytes()
    value = repr(load_record(path)["rows"][0]["last"]).encode()
    assert raw.count(value) >= 2  # in the curve, too
    path.write_bytes(raw.replace(value, value[:-1] + (b"1" if value[-1:] != b"1" else b"2")))
    with pytest.warns(UserWarning, match="checksum"):
        assert numbers(rows_of()) == numbers(good)


def test_a_whole_file_under_the_wrong_name_is_noticed(runs):
    first, second = rows_of(seeds=[0]), rows_of(seeds=[1])
    shutil.copy(path_of(seeds=[0]), path_of(seeds=[1]))
    with pytest.warns(UserWarning, match=r"its seeds is \[0\]; expected \[1\]"):
        assert numbers(rows_of(seeds=[1])) == numbers(second)
    assert numbers(rows_of(seeds=[0])) == numbers(first)


def test_one_lost_network_comes_back_with_the_same_bits_and_the_others_stay(runs):
    world = dataclasses.replace(WORLD, n_pretrained=3)
    for seeds in ([0, 1, 2], [0]):
        trained(TRANSFER, world, seeds)
    other = dataclasses.replace(world, architecture=Architecture((2, 2, 2), 3))
    lost = path_of(TRANSFER[:1], world, [0, 1, 2])
    before, raw = files(runs), lost.read_bytes()
    trained(TRANSFER[:1], other, [0, 1, 2])
    shutil.copy(path_of(TRANSFER[:1], other, [0, 1, 2]), lost)  # whole, but another architecture
    with pytest.warns(UserWarning, match="its architecture is .* expected"):
        network, _ = load_network(TRANSFER[:1], world, [0, 1, 2])
    for name, tensor in load_record(lost)["network"].items():
        assert torch.equal(network.state_dict()[name], torch.from_numpy(tensor))
    for name in (old := load_bytes(raw, runs))["network"]:
        np.testing.assert_array_equal(load_record(lost)["network"][name], old["network"][name])
    now = files(runs)
    assert {name for name in before if now[name] != before[name]} == {lost.relative_to(runs).as_posix()}


def load_bytes(raw, folder):
    (folder / "copy").write_bytes(raw)
    return load_record(folder / "copy")


# progress


def interrupted(monkeypatch, chain, world, seeds, epoch, domain="target"):
    "Train `chain` until `epoch` of its last stage, with a progress file after each epoch; that file's path."
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    kind, calls = type(world), []
    before = kind.after_epoch

    def stop(self, network, of, seeds):
        calls.append(of)
        if calls.count(domain) == epoch:
            raise KeyboardInterrupt
        return before(self, network, of, seeds)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "after_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(chain, world, seeds)
    (path,) = Path(store.runs_dir()).glob("networks/*.progress")
    assert path == record_path(chain_identity(chain, world, seeds)).with_suffix(".progress")
    return path


FOUR = changed(BRIEF, {"transfer": {"epochs": 4, "momentum": 0.9}, "bilevel": {"lower_every": 2, "epsilon_decay": 0.5}})
STEPS = {"scratch": no_pretraining(FOUR), "mix": mix_training(FOUR), "bi-rpt": bi_rpt(FOUR),
         "bi-rpt, Eq. 4": bi_rpt(FOUR, lower_steps=2, lower_mask_rate=1.0), "hand-tune": hand_tune(FOUR, 0, 1),
         "Adam": (Stage("source", Schedule(4, 64, 1e-3, "adam")),)}


@pytest.mark.parametrize(("steps", "damage"), [(s, "none") for s in STEPS] + [("bi-rpt", d) for d in DAMAGES])
def test_a_damaged_progress_file_costs_time_and_no_bits(tmp_path, monkeypatch, steps, damage):
    chain = STEPS[steps]
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "whole"))
    expected = trained(chain, WORLD, [0, 1])
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "interrupted"))
    stages = chain[:-1] if steps == "hand-tune" else ()
    if stages:
        trained(stages, WORLD, [0, 1])
    path = interrupted(monkeypatch, chain, WORLD, [0, 1], 3 if chain[-1].schedule.epochs == 4 else 2, chain[-1].domain)
    if damage != "none":
        path.write_bytes(DAMAGES[damage](path.read_bytes(), random.Random(1)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = trained(chain, WORLD, [0, 1])
    assert [w for w in caught if f"{path.name} is damaged" in str(w.message)] or damage == "none"
    np.testing.assert_array_equal(found["history"]["loss"], expected["history"]["loss"])
    for name, tensor in expected["network"].items():
        np.testing.assert_array_equal(found["network"][name], tensor)
    assert found["sparsity"].keys() == expected["sparsity"].keys() and not path.exists()
    assert found.get("masks", {}).keys() == expected.get("masks", {}).keys()


def test_progress_of_another_training_is_not_taken_up(runs, monkeypatch):
    other = path_of(STEPS["bi-rpt"], WORLD, [1]).with_suffix(".progress")
    expected = trained(STEPS["bi-rpt"], WORLD, [1])
    path_of(STEPS["bi-rpt"], WORLD, [1]).unlink()
    interrupted(monkeypatch, STEPS["bi-rpt"], WORLD, [0], 3).rename(other)
    with pytest.warns(UserWarning, match="its run is"):
        found = trained(STEPS["bi-rpt"], WORLD, [1])
    np.testing.assert_array_equal(found["history"]["loss"], expected["history"]["loss"])


# a store that cannot be written, and files that are not ours


def test_a_write_that_fails_leaves_nothing_half(runs):
    path = save_record(runs / "row", {"mse": 1.0})
    with pytest.raises(OSError, match="No space"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert load_record(path) == {"mse": 1.0}
    assert [p.name for p in runs.iterdir()] == ["row"]


@pytest.mark.parametrize("kind", ASKED)
def test_an_unwritable_store_costs_the_record_and_not_the_result(runs, tmp_path, monkeypatch, kind):
    good = numbers(ASKED[kind][0]())
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "file"))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert numbers(ASKED[kind][0]()) == good


def test_a_checkpoint_is_no_pickle(runs, tmp_path):
    marker, path = tmp_path / "executed", path_of()
    path.parent.mkdir(parents=True)

    class Evil:
        def __reduce__(self):
            return marker.touch, ()

    torch.save(Evil(), path)
    with pytest.raises(Damaged):
        load_record(path)
    with pytest.warns(UserWarning, match="is damaged"):
        rows_of()
    assert not marker.exists()


# two at once


def test_forty_pairs_of_processes_want_the_same_at_once(root, tmp_path):
    command = [sys.executable, "-m", "tests.pairs", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [f"{kind}: 40 pairs, {n} computations" for kind, n in (
        ("stored", 40), ("networks", 40), ("regressors", 40), ("records", 0), ("files", 0))]


def test_what_a_process_left_that_was_killed_after_its_record_was_whole_is_removed(runs):
    whole = rows_of(no_pretraining(BRIEF), seeds=[0])
    names = sorted(p.name for p in (runs / "networks").iterdir())
    for name in names:
        path = runs / "networks" / name
        for file in (path.with_suffix(".lock"), path.with_suffix(".progress")):
            file.touch()
        for file in (path, path.with_suffix(".progress")):
            (path.parent / f".{file.name}-killed.part").mkdir()
            (path.parent / f".{file.name}-killed.part" / "lock").touch()
    assert rows_of(no_pretraining(BRIEF), seeds=[0]).equals(whole)
    assert sorted(p.name for p in (runs / "networks").iterdir()) == names


def test_a_folder_that_is_cleared_away_before_it_is_locked_is_made_again(runs, monkeypatch):
    acquire, taken = FileLock.acquire, []

    def too_late(self, *arguments, **options):
        if not taken and Path(self.lock_file).parent.suffix == ".part":
            taken.append(Path(self.lock_file).parent)
            taken[0].rmdir()
            taken[0].touch()  # whatever stands in the way
        return acquire(self, *arguments, **options)

    monkeypatch.setattr(FileLock, "acquire", too_late)
    with atomic_path(runs / "file") as temporary:
        temporary.write_text("whole")
    assert (runs / "file").read_text() == "whole" and taken


# what goes wrong in training


@dataclasses.dataclass(frozen=True, eq=False)
class OneDiverges(Alloys):
    "One replicate gets absurd strengths."

    domain: str = "target"
    diverging: int = 1  # its seed

    def batches(self, domain, seeds, epoch, batch_size):
        for x, y in super().batches(domain, seeds, epoch, batch_size):
            yield x, torch.where(torch.tensor(seeds) == self.diverging, 1e30, y) if domain == self.domain else y


def one_diverges(**options):
    return OneDiverges(**{f.name: getattr(WORLD, f.name) for f in dataclasses.fields(WORLD)} | options)


@pytest.mark.parametrize("chain", [no_pretraining(BRIEF), ALTERNATING], ids=["scratch", "bi-rpt"])
def test_one_diverged_replicate_is_recorded_and_the_others_are_as_without_it(runs, chain):
    calm = rows_of(chain, seeds=[0, 1, 2])
    for _ in range(2):  # trained, then read
        with pytest.warns(RuntimeWarning, match=r"seed 1: its .* in (target|bilevel) epoch 0"):
            rows = rows_of(chain, one_diverges(), [0, 1, 2])
    assert rows["failed"].notna().tolist() == [False, True, False]
    assert rows["last"].isna().tolist() == [False, True, False]
    assert rows["curve"][0] == calm["curve"][0] and rows["curve"][2] == calm["curve"][2]
    for k in (0, 2):
        assert rows["prediction_last"][k] == calm["prediction_last"][k] and rows["at_end"][k] == calm["at_end"][k]
    cells = summarise(rows, ["task"])
    assert cells["mean"].isna().all() and cells["n_repeats"].eq(2).all()


def test_diverged_pretraining_is_named_as_the_reason(runs):
    hot = pretrain_transfer(changed(BRIEF, {"pretrain": {"learning_rate": 1e38}}))
    with pytest.warns(RuntimeWarning, match=r"seed \d: its .* source epoch 0"):
        rows = rows_of(hot)
    assert rows["failed"].str.contains("source epoch 0").all() and rows["last"].isna().all()
    _, failed = load_network(hot[:1], WORLD, [0, 1])  # who builds on it is told
    assert list(failed) == ["0", "1"] and not trained(hot, WORLD, [0, 1])["history"]


def test_one_diverged_pretrained_network_fails_those_that_start_from_it(runs):
    world = one_diverges(domain="source", n_pretrained=2)
    with pytest.warns(RuntimeWarning, match="source epoch"):
        rows = rows_of(world=world, seeds=[0, 1, 2, 3])
    calm = rows_of(world=dataclasses.replace(WORLD, n_pretrained=2), seeds=[0, 1, 2, 3])
    assert rows["failed"].notna().tolist() == [False, True, False, True]
    assert rows["curve"][0] == calm["curve"][0] and rows["curve"][2] == calm["curve"][2]


def test_images_that_diverge_leave_a_row_without_numbers(runs):
    hot = no_pretraining(changed(IMAGES_BRIEF, {"transfer": {"learning_rate": 1e38}}))
    rows = image_rows(hot)
    assert rows["failed"].str.contains("target epoch 0").all() and rows["test"].isna().all()


def test_masks_that_prune_everything_are_a_failure(runs):
    greedy = bi_rpt(changed(BRIEF, {"transfer": {"epochs": 4}}), gamma=1.0)
    with pytest.warns(RuntimeWarning) as caught:
        rows = rows_of(greedy)
    said = [re.search(r"every weight of \w+(\.\d)? is zero in bilevel epoch 0", str(w.message)) for w in caught]
    assert len(said) == 2 and all(said)
    assert rows["failed"].notna().all()


def test_a_layer_of_zeros_is_a_failure():
    network = WORLD.network([0, 1])
    masks = full_masks(network)
    masks["hidden.weight"][1].zero_()
    found = fit(network, Stage("target", BRIEF.transfer), WORLD, [0, 1], zeros=masks)
    assert found["failed"] == {"1": "every weight of hidden is zero in target epoch 0"}


# determinism


def test_the_same_question_gives_the_same_bits_whatever_was_asked_before(tmp_path, monkeypatch):
    found = []
    for n, before in enumerate([[], [[0]], [[0, 1], [2]]]):
        monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / str(n)))
        for seeds in before:
            rows_of(ALTERNATING, seeds=seeds)
        found.append(numbers(rows_of(ALTERNATING, seeds=[0, 1, 2])))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", ASKED)
def test_the_global_random_state_does_not_matter(runs, tmp_path, monkeypatch, kind):
    chain = ALTERNATING if kind == "alloys" else bi_rpt(IMAGES_BRIEF)
    first = ASKED[kind][0](chain)
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "other"))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert numbers(ASKED[kind][0](chain)) == numbers(first)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]  # noqa: NPY002
