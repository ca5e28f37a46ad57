"""What is written, that others can read it, and what happens when writing goes wrong."""

import configparser
import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import duckdb
import mlcroissant
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import xyield.release
from xyield.alloys import PALETTE
from xyield.archive import write_codecheck
from xyield.benchmark import CHECKSUMS
from xyield.command_line import main
from xyield.release import release, shard_fault, shard_ranges, shard_schema, write_shard, write_shards
from xyield.simulator import yield_strength
from xyield.space import DesignSpace

SETTINGS = configparser.ConfigParser()
SETTINGS.read(Path(__file__).parents[1] / "settings.ini")
SETTINGS = SETTINGS["DEFAULT"]
MANY = 4000  # shards of some 17,000 alloys


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A release with three of its shards."
    folder = tmp_path_factory.mktemp("release")
    release(str(folder), shards=MANY, only="0,2000-2001")
    release(str(folder), describe=True)
    return folder


def test_every_reader_sees_the_same_and_it_is_the_simulator(made):
    files = str(made / "design_space" / "*.parquet")
    query = f"""SELECT "index", 3.067 * tau_y0 * CASE WHEN 1 - pow(1300 / theta, 2.0/3) >= 0.5
                THEN 1 - pow(1300 / theta, 2.0/3) ELSE exp(-1300 / theta / 0.55) END AS strength
                FROM '{files}' ORDER BY "index" """
    by_duckdb = duckdb.sql(query).df()
    expected = yield_strength(DesignSpace().compositions(by_duckdb["index"]), 1300.0)
    np.testing.assert_allclose(by_duckdb["strength"], expected, rtol=1e-5)
    by_polars, by_pandas = pl.read_parquet(files), pd.read_parquet(made / "design_space")
    assert by_polars["theta"].sum() == pytest.approx(by_pandas["theta"].sum(), rel=1e-6)
    assert len(by_duckdb) == len(by_polars) == len(by_pandas)
    assert (DesignSpace().index(by_pandas[list(PALETTE)]) == by_pandas["index"]).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_strengths_on_request(tmp_path, dtype):
    schema = shard_schema(range(500), "strength", temperatures=[300, 1300], dtype=dtype)
    table = pd.read_parquet(write_shard(tmp_path / "x.parquet", range(500), schema))
    expected = yield_strength(table[list(PALETTE)], 1300.0)
    assert table["yield_strength_1300K"].dtype == dtype
    np.testing.assert_allclose(table["yield_strength_1300K"].astype(float), expected, rtol=1e-3, atol=1e-6)


def test_croissant_is_valid_and_reads_the_records(made):
    described = mlcroissant.Dataset(jsonld=str(made / "croissant.json"))
    assert not described.metadata.issues.errors
    assert sum(1 for _ in described.records("measured")) == 238
    names = {r["@id"] for r in json.loads((made / "croissant.json").read_text())["recordSet"]}
    assert names == {"measured", "simulated", "design_space", "splits", "part"}


def test_croissant_says_which_version_what_a_split_is_where_from_and_what_for(made):
    content = json.loads((made / "croissant.json").read_text())
    assert content["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    described = mlcroissant.Dataset(jsonld=str(made / "croissant.json"))
    assert described.metadata.ctx.is_v1_1() and described.metadata.data_limitations
    parts = next(r for r in content["recordSet"] if r["@id"] == "part")
    assert parts["dataType"] == "cr:Split"
    meaning = {d["part/name"]: d["part/url"] for d in parts["data"]}
    assert meaning == {"train": "cr:TrainingSplit", "test": "cr:TestSplit"}
    fields = {f["@id"]: f for r in content["recordSet"] for f in r["field"]}
    refers = {name: f["references"]["field"]["@id"] for name, f in fields.items() if "references" in f}
    assert refers == {"splits/part": "part/name", "splits/point": "measured/point"}
    assert set(refers.values()) <= set(fields)
    rows = sum(1 for _ in described.records("splits"))
    assert rows == len(pd.read_csv(made / "xyield-splits-1.0.csv"))
    files = {f["@id"]: f for f in content["distribution"]}
    assert files["xyield-splits-1.0.parquet"]["prov:wasDerivedFrom"] == {"@id": "measured.parquet"}
    assert all(f["prov:wasGeneratedBy"]["prov:label"] for f in files.values())


def test_croissant_with_a_source_that_is_not_there_is_refused(made, tmp_path):
    content = json.loads((made / "croissant.json").read_text())
    content["distribution"] = [f for f in content["distribution"] if f["@id"] != "measured.parquet"]
    (tmp_path / "croissant.json").write_text(json.dumps(content))
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))


def test_data_package_has_the_columns_of_the_files_with_units(made):
    package = json.loads((made / "datapackage.json").read_text())
    kinds = {"integer": "i", "number": "f", "string": "OU"}
    for resource in package["resources"]:
        table, fields = pd.read_parquet(made / resource["path"]), resource["schema"]["fields"]
        assert [f["name"] for f in fields] == list(table.columns)
        assert f"sha256:{hashlib.sha256((made / resource['path']).read_bytes()).hexdigest()}" == resource["hash"]
        assert resource["licenses"][0]["name"] == "CC-BY-4.0"
        for field in fields:
            kind = table[field["name"]].dtype
            assert field["type"] == "string" if not hasattr(kind, "kind") else kind.kind in kinds[field["type"]], field
    units = {f["name"]: f.get("unit") for f in package["resources"][0]["schema"]["fields"]}
    assert (units["temperature"], units["yield_strength"], units["Al"], units["formula"]) == ("K", "GPa", "1", None)
    in_file = pq.read_schema(made / "measured.parquet").field("yield_strength_std").metadata
    assert in_file[b"unit"] == b"GPa"


def test_card_has_a_header_that_names_files_that_are_there(made):
    _, header, text = (made / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(header)
    assert said["license"] == "cc-by-4.0" and sum(c.get("default", False) for c in said["configs"]) == 1
    assert all(list(made.glob(c["data_files"])) for c in said["configs"])
    assert "| `few_shot_11` |" in text and "CC-BY-4.0" in text


def test_release_has_the_split_files_of_the_package(made):
    for name, expected in CHECKSUMS.items():
        assert hashlib.sha256((made / name).read_bytes()).hexdigest() == expected


def test_codemeta_and_zenodo_say_what_the_citation_says(root):
    cff = yaml.safe_load((root / "CITATION.cff").read_text())
    meta, zenodo = (json.loads((root / name).read_text()) for name in ("codemeta.json", ".zenodo.json"))
    assert (meta, zenodo) == (xyield.release.codemeta(cff), xyield.release.zenodo(cff))
    for said in (meta, zenodo):
        assert said.get("name", said.get("title")) == cff["title"]
        assert said["version"] == cff["version"] == xyield.__version__
        assert said["keywords"] == cff["keywords"]
    assert meta["license"].endswith(cff["license"]) and zenodo["license"] == cff["license"]
    assert [a["name"] for a in meta["author"]] == [c["name"] for c in zenodo["creators"]] == [
        a["name"] for a in cff["authors"]]


def described(folder, root, monkeypatch, **settings):
    "All descriptions of a release and of a checkout, as one text, made under other settings."
    monkeypatch.setitem(xyield.release.exported, "settings", xyield.release.exported["settings"] | settings)
    for name in ("nbs", "xyield", "CITATION.cff", "settings.ini"):
        (folder / name).symlink_to(root / name)
    release(str(folder), describe=True)
    written = [*xyield.release.write_citation(folder), write_codecheck(folder)]
    names = ("README.md", "DATASHEET.md", "croissant.json", "datapackage.json")
    return {p.name: p.read_text() for p in [*written, *(folder / name for name in names)]}


def test_descriptions_name_the_address_of_the_settings_and_no_other(root, tmp_path, monkeypatch):
    assert xyield.release.addresses() == (SETTINGS["git_url"], SETTINGS["doc_host"] + SETTINGS["doc_baseurl"])
    texts = described(tmp_path, root, monkeypatch, git_url="", doc_host="", doc_baseurl="/")
    theirs = {"github.com/codemeta", "github.com/mlcommons"}
    for name, text in texts.items():
        assert not set(re.findall(r"git(?:hub|lab)\.(?:com|io)[/\w]*|\w+\.github\.io", text)) - theirs, name


def test_descriptions_follow_the_settings(root, tmp_path, monkeypatch):
    texts = described(tmp_path, root, monkeypatch, git_url="https://example.org/code", doc_host="https://example.org",
                      doc_baseurl="/site/")
    for name in ("codemeta.json", "codecheck.yml", "croissant.json", "datapackage.json"):
        assert "https://example.org/code" in texts[name], name
    assert "https://example.org/site/leaderboard.html" in texts["README.md"]


def test_datasheet_counts_what_is_there(made):
    text = (made / "DATASHEET.md").read_text()
    rows = sum(pq.read_metadata(p).num_rows for p in (made / "design_space").glob("*.parquet"))
    assert f"{rows:,} of 68,676,993" in text
    assert "3,090,464,685" in text and "| `measured.parquet` | 238 |" in text


def test_shards_cover_the_space_without_overlap():
    for n in (1, 7, 32):
        ranges = shard_ranges(n)
        assert ranges[0].start == 0 and ranges[-1].stop == len(DesignSpace())
        assert all(a.stop == b.start for a, b in pairwise(ranges))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-50])


def foreign(path):
    pq.write_table(pa.table({"x": [1, 2]}), path)


def other_stretch(path):
    write_shard(path, range(10))


def text(path):
    path.write_text("not Parquet")


@pytest.mark.parametrize("damage", [truncate, foreign, other_stretch, text])
def test_wrong_shard_is_named_and_written_again(tmp_path, capsys, damage):
    (path,) = write_shards(tmp_path, MANY, [5])
    good = path.read_bytes()
    damage(path)
    assert shard_fault(path, shard_schema(shard_ranges(MANY)[5]))
    write_shards(tmp_path, MANY, [5])
    captured = capsys.readouterr()
    assert path.name in captured.out + captured.err
    assert pd.read_parquet(path).equals(pd.read_parquet(pa.BufferReader(good)))


def test_flipped_byte_is_found_by_the_full_check(tmp_path):
    (path,) = write_shards(tmp_path, MANY, [5])
    flip(path)
    assert shard_fault(path, shard_schema(shard_ranges(MANY)[5]), full=True)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_a_damaged_shard_is_written_again_without_being_asked_and_never_signed(tmp_path):
    few = {"shards": MANY, "only": "5"}
    folder = release(str(tmp_path), **few)
    path = folder / "design_space" / f"part-0005-of-{MANY}.parquet"
    good = path.read_bytes()
    flip(path)
    with pytest.raises(ValueError, match=f"{path.name} cannot be read"):
        release(str(tmp_path), describe=True)
    assert not (folder / "SHA256SUMS").exists()
    release(str(tmp_path), **few)
    assert path.read_bytes() == good
    release(str(tmp_path), describe=True)
    assert hashlib.sha256(good).hexdigest() in (folder / "SHA256SUMS").read_text()


def test_shards_of_other_settings_do_not_mix(tmp_path):
    (path,) = write_shards(tmp_path, MANY, [5])
    before = path.read_bytes()
    other = {"content": "strength", "temperatures": [300]}
    with pytest.raises(ValueError, match=rf"{path.name} was made with another content, 'parameters'"):
        write_shards(tmp_path, MANY, [6], **other)
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_bytes() == before
    write_shards(tmp_path, MANY, [5], **other)  # all that is there, anew
    write_shards(tmp_path, MANY, [6], **other)


@pytest.mark.parametrize("step", [0, -5])
def test_a_step_of_nothing_is_refused(tmp_path, step):
    with pytest.raises(ValueError, match=f"step is {step}; expected"):
        release(str(tmp_path), "strength", MANY, "0", step=step)


def test_other_division_is_refused(tmp_path):
    write_shards(tmp_path, MANY, [5])
    with pytest.raises(ValueError, match="overlaps with a division into 100 shards"):
        write_shards(tmp_path, 100, [1])


def test_full_disk_leaves_what_is_complete_and_the_next_run_goes_on(tmp_path, monkeypatch):
    original, calls = xyield.release._tables, []

    def fails_in_the_second(part, schema):
        calls.append(part)
        for table in original(part, schema):
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield table

    monkeypatch.setattr(xyield.release, "_tables", fails_in_the_second)
    with pytest.raises(OSError, match=r"no space left for .*; 1 of 3 shards are complete"):
        write_shards(tmp_path, MANY, [1, 2, 3])
    assert [p.name for p in tmp_path.iterdir()] == ["part-0001-of-4000.parquet"]
    monkeypatch.setattr(xyield.release, "_tables", original)
    write_shards(tmp_path, MANY, [1, 2, 3])
    assert len(list(tmp_path.iterdir())) == 3


def test_interrupted_command_leaves_whole_shards_and_goes_on(tmp_path):
    command = [Path(sys.executable).parent / "xyield", "release", "--out", tmp_path, "--shards", "64", "--only", "0-9"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.rglob("part-*.parquet")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert "interrupted; the same command goes on" in error
    there = sorted((tmp_path / "design_space").glob("part-*"))  # a stop at a bad moment can leave a hidden folder
    assert 0 < len(there) < 10
    ranges = shard_ranges(64)
    assert all(shard_fault(p, shard_schema(ranges[int(p.name[5:9])]), full=True) is None for p in there)
    before = there[0].stat().st_mtime_ns
    assert main(["release", "--out", str(tmp_path), "--shards", "64", "--only", "0-1"]) == 0
    assert there[0].stat().st_mtime_ns == before


@pytest.mark.parametrize(("options", "words"), [
    (["--only", "4000"], "expected 0 to 3999"), (["--only", "1-3,2"], "overlap in 2"),
    (["--only", "x"], "shards are 'x'"),
    (["--content", "everything"], "content is 'everything'"), (["--elements", "gold"], "elements is 'gold'"),
    (["--shards", "0"], "n_shards is 0")])
def test_bad_option_is_one_clear_line(tmp_path, capsys, options, words):
    assert main(["release", "--out", str(tmp_path / "x"), "--shards", str(MANY), "--only", "1", *options]) == 1
    error = capsys.readouterr().err
    assert words in error and error.startswith("xyield release: ")
    assert not list(tmp_path.rglob("*.parquet"))


def test_unknown_command(capsys):
    assert main(["relaese"]) == 2
    assert "expected one of archive, cost, explain, predict" in capsys.readouterr().err
    assert main([]) == 0
