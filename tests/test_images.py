"""The image experiments at the paper's layout: tiny folders with real files, several processes, interruptions."""

import dataclasses
import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from xyield import testbed, training
from xyield.image_runs import GRIDS, image_settings, method_chains
from xyield.image_world import ImagePairs
from xyield.images import PaperImages, corrupt_folder, data_dir, imagenet_c, require
from xyield.methods import bi_rpt, changed, hand_tune, no_pretraining, pretrain_transfer
from xyield.store import record_path
from xyield.testbed import FASHION_FILES, fashion_mnist
from xyield.training import Hardware, chain_identity, trained

TINY = testbed.Testbed(items="digits", source_per_class=2, heldout_per_class=2, channels=(4, 4, 8, 8))
ROUNDS = {"pretrain_sparsity_only": (1, 0), "transfer_sparsity_only": (0, 1), "handtune": (1, 1)}
SHORT = {"epochs": 1, "batch_size": 32, "learning_rate": 0.05}
PARTS = ("pretrain", "pretrain_again", "transfer", "transfer_again", "scratch", "mix")
SCHEDULES = image_settings("CUB-200", dict.fromkeys(PARTS, SHORT))
FEW = dataclasses.replace(TINY, target="CUB-200 (10-shot)")
PRUNED = hand_tune(SCHEDULES, 1, 0)[:2]
TOGETHER = (PRUNED, bi_rpt(SCHEDULES, mask_rate=1e3))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    "Folders in the layouts of the public data sets: three ImageNet classes, four kinds of birds with twelve images."
    monkeypatch.setenv("XYIELD_DATA", str(tmp_path))
    rng = np.random.default_rng(0)

    def picture(path, size=(40, 36)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)

    for wnid in ("n01440764", "n01443537", "n01484850"):
        for i in range(3):
            picture(tmp_path / "imagenet" / "train" / wnid / f"{wnid}_{i}.JPEG")
            picture(tmp_path / "imagenet-c" / "fog" / "2" / wnid / f"ILSVRC2012_val_0000000{i}.JPEG")
    birds = tmp_path / "CUB_200_2011"
    names = [f"{k:03d}.Bird/Bird_{k}_{i}.jpg" for k in (1, 2, 3, 4) for i in range(14)]
    for name in names:
        picture(birds / "images" / name)
    (birds / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    (birds / "image_class_labels.txt").write_text("".join(f"{i} {int(n[:3])}\n" for i, n in enumerate(names, 1)))
    (birds / "train_test_split.txt").write_text("".join(f"{i} {int(i % 14 > 2)}\n" for i in range(1, len(names) + 1)))
    return tmp_path


def test_every_method_runs_on_folders_in_the_public_layouts(folders, runs):
    noisy = data_dir() / "imagenet-corrupted" / "impulse_noise" / "2"
    corrupt_folder(require("imagenet", "train"), noisy, "impulse_noise", 2, size=32)
    model = tuple((name, value) for name, value in TINY.model if name != "in_chans")
    data = PaperImages("ImageNet-C", "CUB-200 (10-shot)", "impulse_noise", 2, 32, 32, model, n_source=3, n_target=4)
    assert len(data.target_train(0)) == 40 and len(imagenet_c("fog", 2, 32)) == 9
    for name, chain in method_chains(SCHEDULES, ROUNDS).items():
        record = trained(chain, ImagePairs(data), [0])
        assert set(record["accuracy"]) == {"test"}, name
        assert not record["failed"]


def test_missing_data_shows_the_tree(folders):
    with pytest.raises(FileNotFoundError, match=r"(?s)imagenet/val is missing.*n01440764/ILSVRC2012_val"):
        require("imagenet", "val")
    with pytest.raises(FileNotFoundError, match=r"(?s)imagenet-corrupted.*made by `corrupt_folder`"):
        PaperImages("ImageNet-C").source_train()


@pytest.mark.parametrize("corruption", ["glass_blur", "impulse_noise", "motion_blur"])
def test_corruption_depends_on_the_file_only(folders, tmp_path, corruption):
    for name in ("first", "second"):
        corrupt_folder(require("imagenet", "train"), tmp_path / name, corruption, 3, size=40)
        np.random.default_rng().random()
    files = sorted((tmp_path / "first").rglob("*.JPEG"))
    assert len(files) == 9
    assert all(f.read_bytes() == (tmp_path / "second" / f.relative_to(tmp_path / "first")).read_bytes() for f in files)


def test_missing_fashion_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XYIELD_DATA", str(tmp_path))
    monkeypatch.setattr("xyield.testbed.DEBIAN_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist.__wrapped__()


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"abc")[:-4], gzip.compress(b"abc")],
                         ids=["empty", "no gzip", "cut off", "other content"])
def test_damaged_fashion_is_named(tmp_path, monkeypatch, content):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name in FASHION_FILES:
        (folder / f"{name}.gz").write_bytes(content)
    monkeypatch.setenv("XYIELD_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=rf"{next(iter(FASHION_FILES))}.*expected"):
        fashion_mnist.__wrapped__()


def test_killed_bilevel_run_goes_on_as_if_nothing_had_happened(runs, tmp_path, monkeypatch):
    settings = changed(SCHEDULES, {"transfer": {"epochs": 3},
                                   "bilevel": {"lower_every": 1, "mask_rate": 1e3, "gamma": 1e-5}})
    chain, batches = bi_rpt(settings), ImagePairs.batches
    expected = trained(chain, ImagePairs(TINY), [0])
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "again"))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)

    def broken(self, domain, seeds, epoch, batch_size):
        if domain == "target" and epoch == 2:
            raise KeyboardInterrupt
        return batches(self, domain, seeds, epoch, batch_size)

    monkeypatch.setattr(ImagePairs, "batches", broken)
    with pytest.raises(KeyboardInterrupt):
        trained(chain, ImagePairs(TINY), [0])
    progress = record_path(chain_identity(chain, ImagePairs(TINY), [0])).with_suffix(".progress")
    assert progress.is_file()
    monkeypatch.setattr(ImagePairs, "batches", batches)
    found = trained(chain, ImagePairs(TINY), [0])
    assert found["history"]["loss"].tolist() == expected["history"]["loss"].tolist()
    for name, weight in expected["network"].items():
        np.testing.assert_array_equal(found["network"][name], weight)
    assert found["accuracy"] == expected["accuracy"]
    assert not progress.exists()


def train_elsewhere(root, hardware):
    "TOGETHER in a fresh interpreter: it may fork, and `accelerate` has one precision in each process."
    code = f"from tests.test_images import *; [trained(c, ImagePairs(FEW), [0], {hardware}) for c in TOGETHER]"
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return [trained(chain, ImagePairs(FEW), [0], hardware) for chain in TOGETHER]  # stored by the other


def test_mixed_precision_is_in_force(runs, root):
    mixed = train_elsewhere(root, Hardware("cpu", precision="bf16"))
    for half, chain in zip(mixed, TOGETHER, strict=True):
        single = trained(chain, ImagePairs(FEW), [0], Hardware("cpu"))
        assert half["history"]["loss"].tolist() != single["history"]["loss"].tolist()
        np.testing.assert_allclose(half["history"]["loss"], single["history"]["loss"], rtol=0.1)


def test_two_processes_train_one_network_on_half_of_each_batch_each(runs, root):
    pruned, bilevel = train_elsewhere(root, Hardware("cpu", processes=2))
    assert np.isfinite(pruned["history"]["loss"]).all() and np.isfinite(bilevel["history"]["loss"]).all()
    assert pruned["sparsity"]["total"][0] == pytest.approx(0.2, abs=1e-3)
    assert 0 < bilevel["sparsity"]["total"][0] < 1


def test_pairs_that_share_a_source_share_its_network():
    other = dataclasses.replace(TINY, source="ImageNet-C")

    def key(chain, data):
        return record_path(chain_identity(chain, ImagePairs(data), [0]))

    transfer, scratch = pretrain_transfer(SCHEDULES), no_pretraining(SCHEDULES)
    assert key(transfer[:1], TINY) == key(transfer[:1], FEW)
    assert key(transfer[:1], TINY) != key(transfer[:1], other)
    assert key(transfer, TINY) != key(transfer, FEW)
    assert key(scratch, TINY) == key(scratch, other)  # no source in it
    assert key(scratch, TINY) != key(scratch, FEW)


def test_paper_profile_has_the_schedules_of_appendix_b1(root):
    profile = yaml.safe_load((root / "profiles" / "paper.yml").read_text())
    s = image_settings("CUB-200", profile["tab01_images"]["settings"])
    assert [s.part(p).epochs for p in ("pretrain", "pretrain_again", "transfer", "transfer_again")] == [95, 45, 90, 45]
    assert (s.pretrain.batch_size, s.transfer.batch_size, s.scratch.learning_rate) == (1024, 64, 0.01)
    assert [s.pretrain.rate(e) for e in (4, 34, 35, 65, 94)] == pytest.approx([0.4, 0.4, 0.04, 0.004, 0.004])
    assert [s.transfer.rate(e) for e in (0, 30, 89)] == pytest.approx([1e-3, 1e-4, 1e-5])
    assert (s.bilevel.lower_rate, s.bilevel.gamma, s.bilevel.mask_rate) == (1e-3, 1e-4, 3.5)
    for name in ("taba05_images", "taba09_images", "figa04_images"):
        assert profile[name]["settings"] == profile["tab01_images"]["settings"]


def test_committed_table1_agrees_with_the_committed_grids(root):
    "The paper's does not in one cell (tutorial e); ours come from the same networks."
    table = pd.read_csv(root / "tables" / "tab01_images.csv").set_index(["source", "target", "method"])
    assert table["n_seeds"].min() >= 3
    for (source, target), name in zip(GRIDS, ("taba05", "taba06", "taba07", "taba08"), strict=True):
        grid = pd.read_csv(root / "tables" / f"{name}_images.csv").set_index(["n_s", "n_t"])["test_mean"]
        rounds = json.loads((root / "tables" / f"{name}_images.json").read_text())["rounds"]
        for method, cell in {"pretrain_transfer": [0, 0], **rounds}.items():
            assert table.loc[(source, target, method), "ours_mean"] == pytest.approx(grid.loc[tuple(cell)]), method


def test_each_domain_has_its_own_outputs():
    class Copy(torch.nn.Linear):
        def forward(self, x):
            return x + 0 * self.bias

    world, n = ImagePairs(TINY), TINY.n_source + TINY.n_target
    logits = torch.randn(50, n, generator=torch.Generator().manual_seed(0))
    for domain, own in (("source", slice(0, TINY.n_source)), ("target", slice(TINY.n_source, n))):
        labels, odd = logits[:, own].argmax(1), torch.full_like(logits, 99.0)
        odd[:, own] = logits[:, own]
        assert world.accuracy(Copy(1, n), testbed.Images(odd, labels), domain) == 100
        assert world.accuracy(Copy(1, n), testbed.Images(odd, (labels + 1) % (own.stop - own.start)), domain) == 0
        expected = torch.nn.functional.cross_entropy(logits[:, own], labels)
        assert world.loss(Copy(1, n), (odd, labels), domain).item() == pytest.approx(expected.item())
