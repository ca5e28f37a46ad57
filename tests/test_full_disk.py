"""A disk that is really full: a small one in memory, where tests may mount it. And two reproductions at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xyield.release import shard_fault, shard_ranges, shard_schema, write_shards
from xyield.report import read_sidecar, write_table
from xyield.store import identity, load_record, record_path, stored

BIN = Path(sys.executable).parent
MANY = 4000  # shards of some 40 kB


@pytest.fixture
def small_disk(tmp_path):
    "A disk of 400 kB."
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() or not mount or subprocess.run([mount, "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk]).returncode:
        pytest.skip("cannot mount a disk here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(disk):
    "Leave nothing."
    with pytest.raises(OSError, match="No space left"), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def files(disk):
    return sorted(p.name for p in disk.rglob("*") if p.is_file() and p.name != "filler")


def test_a_result_is_not_lost_with_the_space_for_its_record(small_disk, monkeypatch):
    monkeypatch.setenv("XYIELD_RUNS", str(small_disk))
    first, second = (identity("demo", seed=seed) for seed in (0, 1))
    stored(first, lambda progress: {"x": np.zeros(10)})
    with pytest.warns(UserWarning, match=r"cannot be kept .*computed for this time only"):
        found = stored(second, lambda progress: {"x": np.ones(200_000)})
    assert found["x"].sum() == 200_000
    assert load_record(record_path(first), first)["x"].sum() == 0
    assert not [name for name in files(small_disk) if name.endswith(".part")]
    assert not record_path(second).exists()
    assert stored(second, lambda progress: {"x": np.ones(20)})["x"].sum() == 20
    assert load_record(record_path(second), second)["x"].sum() == 20


def test_an_artefact_is_the_old_one_or_the_new_one(small_disk):
    path = small_disk / "tables" / "mine.csv"
    write_table(pd.DataFrame({"x": [1]}), path, "A table", "smoke", {})
    before = {name: (path.parent / name).read_bytes() for name in files(small_disk)}
    fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        write_table(pd.DataFrame({"x": range(9000)}), path, "A table", "smoke", {})
    assert {name: (path.parent / name).read_bytes() for name in files(small_disk)} == before
    (small_disk / "filler").unlink()
    write_table(pd.DataFrame({"x": [2]}), path, "A table", "smoke", {})
    assert read_sidecar(path.with_suffix(".json"))["files"].keys() == {"mine.csv", "mine.md"}


def test_a_release_goes_on_where_the_disk_was_full(small_disk):
    ranges, wanted = shard_ranges(MANY), [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111]
    filler = small_disk / "filler"
    filler.write_bytes(bytes(250_000))
    with pytest.raises(OSError, match=r"no space left for .* shards are complete"):
        write_shards(small_disk / "space", MANY, wanted)
    done = sorted((small_disk / "space").glob("*.parquet"))
    assert 0 < len(done) < len(wanted) and len(files(small_disk)) == len(done)
    filler.unlink()
    for path in write_shards(small_disk / "space", MANY, wanted[: len(done) + 1]):
        assert shard_fault(path, shard_schema(ranges[int(path.name[5:9])]), full=True) is None


@pytest.mark.slow
@pytest.mark.parametrize("checkouts", [("one", "other"), ("one", "one")], ids=["two checkouts", "one checkout"])
@pytest.mark.parametrize("target", ["taba13_datasets", "tab02_few_shot"])
def test_two_reproduce_into_one_place_at_once(root, tmp_path, target, checkouts):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    started = []
    for name in set(checkouts):
        for file in filter(None, listed.split("\0")):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / file, tmp_path / name / file)
    for name in checkouts:
        environment = {k: v for k, v in os.environ.items() if k != "XYIELD_MASTER"} | {
            "XYIELD_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(tmp_path / name),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        command = [BIN / "snakemake", "--cores", "1", "--config", "profile=smoke", "--", target]
        started.append(subprocess.Popen(command, cwd=tmp_path / name, env=environment, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True))
    for process in started:
        _, words = process.communicate(timeout=900)
        assert process.returncode == 0, words[-3000:]
    sidecars = list((tmp_path / "runs" / "smoke" / "tables").glob("*.json"))
    assert sidecars
    left = [p.name for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert not [name for name in left if name.endswith((".part", ".lock", ".progress")) or ".damaged" in name]
