"""A reproduction is carried away in one file; what comes back is believed only when it is whole and ours."""

import json
import random
import re
import zipfile
from pathlib import Path

import pytest
import yaml

import xyield.archive as archives
from xyield.archive import CRATE, MANIFEST, archive, read_archive, unpack, write_codecheck
from xyield.report import checksum
from xyield.store import identity, record_path, save_record, stored

QUESTION = identity("demo", seed=0)


@pytest.fixture
def made(root, tmp_path, monkeypatch):
    "An archive of a reproduction that was one notebook and one stored result, and an empty store to unpack it into."
    pytest.importorskip("rocrate")
    runs = tmp_path / "runs"
    monkeypatch.setenv("XYIELD_RUNS", str(runs))
    save_record(record_path(QUESTION), {"x": 1}, QUESTION)
    executed = runs / "smoke" / "notebooks" / "taba13_datasets.ipynb"
    executed.parent.mkdir(parents=True)
    executed.write_text('{"cells": []}')
    noted = {"rule": "taba13_datasets", "starttime": 1_700_000_000.0, "endtime": 1_700_000_060.5}
    monkeypatch.setattr(archives, "_record", lambda root, output: noted if output == str(executed) else {})
    path = archive("smoke", str(tmp_path / "mine.zip"))
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path / "elsewhere"))
    return path


def test_what_was_stored_comes_back_and_nothing_is_computed_beside_it(made, monkeypatch):
    assert "1 stored results of smoke" in unpack(str(made), "smoke")
    monkeypatch.setenv("XYIELD_ARCHIVE", str(made))
    assert stored(QUESTION, lambda progress: {"x": 2}) == {"x": 1}
    with pytest.raises(ValueError, match=r"is not in .*mine\.zip; nothing is computed"):
        stored(identity("demo", seed=1), lambda progress: {"x": 2})
    monkeypatch.delenv("XYIELD_ARCHIVE")
    assert stored(identity("demo", seed=1), lambda progress: {"x": 2}) == {"x": 2}


def test_no_flipped_byte_is_believed(made, tmp_path):
    whole, rng = made.read_bytes(), random.Random(0)
    with zipfile.ZipFile(made) as zipped:
        contents = {name: zipped.read(name) for name in zipped.namelist()}
    refused = 0
    for place in rng.sample(range(len(whole)), 60):
        path = tmp_path / "flipped.zip"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            read_archive(path, "smoke")
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # a byte of the format that says nothing, such as a date
            with zipfile.ZipFile(path) as zipped:
                assert {name: zipped.read(name) for name in zipped.namelist()} == contents
    assert refused > 40


def resealed(path, target, change, also=()):
    "An archive whose manifest was changed by somebody who knows how to seal it."
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name != MANIFEST:
                new.writestr(name, old.read(name))
        said = json.loads(old.read(MANIFEST))
        change(said)
        new.writestr(MANIFEST, json.dumps(said | {"checksum": checksum(said)}))
        for name, content in also:
            new.writestr(name, content)
    return target


@pytest.mark.parametrize(("change", "also", "words"), [
    (lambda said: said.update(profile="paper"), (), "is of the profile paper; expected smoke"),
    (lambda said: said["code"].update(simulator="0"), (), "by other code, of simulator; expected"),
    (lambda said: said["code"].update(gone="0"), (), "by other code, of gone"),
    (lambda said: said["libraries"].update(numpy="1.0"), (), r"was made with numpy 1\.0 \(here"),
    (lambda said: said.update(format="other"), (), "of another format"),
    (lambda said: said["files"].update({"../evil": "0"}), [("../evil", "x")], r"it would write to \.\./evil"),
    (lambda said: said["files"].update({"/evil": "0"}), [("/evil", "x")], "it would write to /evil"),
    (lambda said: None, [("more", "x")], "has or lacks more"),
    (lambda said: said["files"].update(more="0"), (), "has or lacks more"),
])
def test_what_is_foreign_is_refused_by_name_and_leaves_nothing(made, tmp_path, change, also, words):
    path = resealed(made, tmp_path / "changed.zip", change, also)
    with pytest.raises(ValueError, match=rf"{path.name} .*{words}"):
        unpack(str(path), "smoke")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "foreign.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.zip is damaged, or no zip file"):
        unpack(str(path))
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("holiday.txt", "sun")
    with pytest.raises(ValueError, match=rf"has no {MANIFEST}, so xyield did not make it"):
        unpack(str(path))
    with pytest.raises(FileNotFoundError, match="there is no archive"):
        unpack(str(tmp_path / "none.zip"))


def test_the_crate_says_what_ran_when_and_what_it_left(made):
    with zipfile.ZipFile(made) as zipped:
        names, graph = set(zipped.namelist()), json.loads(zipped.read(CRATE))["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    listed = {e["@id"] for e in graph if "File" in e["@type"]}
    assert listed == names - {MANIFEST, CRATE}
    run = entities["#run-taba13_datasets"]
    assert run["@type"] == "CreateAction" and run["instrument"] == {"@id": "experiments/taba13_datasets.ipynb"}
    assert run["startTime"] == "2023-11-14T22:13:20+00:00" < run["endTime"]
    assert {"@id": "notebooks/taba13_datasets.ipynb"} in [run["result"]] or run["result"]
    assert entities["./"]["mainEntity"] == {"@id": "Snakefile"}


def test_the_crate_is_valid(made, tmp_path, monkeypatch):
    validator = pytest.importorskip("rocrate_validator.services")
    import rocrate
    from rocrate_validator.models import Severity
    from rocrate_validator.utils.http import HttpRequester

    class Context:  # the one that the library carries; a test asks nobody's server
        status_code, ok, headers = 200, True, {"Content-Type": "application/ld+json"}
        text = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text()

        def json(self):
            return json.loads(self.text)

        def raise_for_status(self):
            pass

    monkeypatch.setattr(HttpRequester, "get", lambda self, url, **_: Context(), raising=False)
    with zipfile.ZipFile(made) as zipped:
        zipped.extractall(tmp_path / "crate")
    (tmp_path / "crate" / MANIFEST).unlink()
    settings = {"rocrate_uri": str(tmp_path / "crate"), "profile_identifier": "ro-crate-1.3",
                "requirement_severity": Severity.REQUIRED, "offline": True}
    found = validator.validate(settings)
    assert not found.has_issues(), [(i.check.identifier, i.message) for i in found.get_issues()]


def test_codecheck_lists_what_a_run_should_leave(root, tmp_path):
    committed = (root / "codecheck.yml").read_text()
    for name in ("CITATION.cff", "settings.ini"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    for name in ("nbs", "xyield"):
        (tmp_path / name).symlink_to(root / name)
    assert write_codecheck(tmp_path).read_text() == committed, "run `make readme`"
    listed = yaml.safe_load(committed)["manifest"]
    assert {"tables/tab02_few_shot.csv", "figures/figa05_representation.png"} <= {entry["file"] for entry in listed}
    assert all(re.fullmatch(r"(tables|figures)/\w+\.\w+", entry["file"]) for entry in listed)


def test_a_damaged_notebook_is_not_carried_away(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XYIELD_RUNS", str(tmp_path))
    cut = tmp_path / "smoke" / "notebooks" / "taba13_datasets.ipynb"
    cut.parent.mkdir(parents=True)
    cut.write_text('{"cells": [')
    with pytest.raises(ValueError, match=r"taba13_datasets\.ipynb is not a notebook"):
        archive("smoke")
