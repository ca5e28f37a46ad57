"""`make verify`: what was changed behind a sidecar's back is wrong, what other code made is stale; both are named."""

import json
import shutil

import pytest

from xyield.command_line import main
from xyield.experiments import code_cells, read_tasks
from xyield.report import checksum
from xyield.store import code_record, sha256
from xyield.verify import BADGE, badge, findings, summary


@pytest.fixture(scope="module")
def now(root):
    return findings(root)


@pytest.fixture
def copy(root, tmp_path):
    "What `verify` looks at, to be damaged."
    for folder in ("tables", "figures", "profiles", "nbs/experiments", "docs/pages"):
        shutil.copytree(root / folder, tmp_path / folder)
    for file in ("README.md", "CONTRIBUTING.md", "requirements.lock", "settings.ini"):
        shutil.copy(root / file, tmp_path)
    for task in read_tasks(root / "nbs" / "experiments").values():
        for file in task.needs:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            shutil.copy(root / file, tmp_path / file)
    return tmp_path


def found_in(copy, state="wrong"):
    found = findings(copy)
    return found[found["state"] == state].set_index("file")["why"].to_dict()


def test_nothing_committed_is_wrong(now):
    assert now[now["state"] == "wrong"].empty, now[now["state"] == "wrong"].to_string()


def test_badge_says_what_is_so(root, now):
    assert (root / BADGE).read_text() == badge(*summary(root, now)), "run `make verify` and commit the badge"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_every_kind_of_damage_is_named(copy):
    assert not found_in(copy)
    flipped = bytearray((copy / "tables" / "tab02_few_shot.csv").read_bytes())
    flipped[-3] ^= 1
    (copy / "tables" / "tab02_few_shot.csv").write_bytes(flipped)
    edit(copy / "tables" / "tabe1_peers.md", "Profile", "profile")
    edit(copy / "tables" / "taba10_gamma.json", '"repeats": 10', '"repeats": 11')
    (copy / "tables" / "model_width.json").write_text("{}")
    (copy / "figures" / "screening.png").unlink()
    (copy / "figures" / "mine.csv").write_text("x\n1\n")
    edit(copy / "README.md", "[refuted]", "[confirmed]")
    edit(copy / "docs" / "pages" / "reproduce.md", "make test", "0.1 ± 0.2")
    found = found_in(copy)
    for file, why in {
        "tables/tab02_few_shot.csv": "was changed: its SHA-256 is", "tables/tabe1_peers.md": "was changed",
        "tables/taba10_gamma.json": "was changed after it was written", "tables/model_width.json": "is no sidecar",
        "figures/screening.png": "is missing", "figures/mine.csv": "no sidecar vouches for it",
        "README.md": "quotes [confirmed]", "docs/pages/reproduce.md": "0.1 ± 0.2 is typed",
    }.items():
        assert why in found[file], file
    assert set(found) - {"tables/claims.csv"} == {
        "tables/tab02_few_shot.csv", "tables/tabe1_peers.md", "tables/taba10_gamma.json", "tables/model_width.json",
        "figures/screening.png", "figures/mine.csv", "README.md", "docs/pages/reproduce.md"}


def test_a_changed_number_contradicts_the_ledger_even_with_a_fitting_checksum(copy):
    table = copy / "tables" / "tab02_few_shot.csv"
    rows = table.read_text().splitlines()
    at = rows[0].split(",").index("gain_mean")
    for n, row in enumerate(rows[1:], start=1):
        cells = row.split(",")
        rows[n] = ",".join(c if i != at or not c else str(-float(c)) for i, c in enumerate(cells))
    table.write_text("\n".join(rows) + "\n")
    sidecar = table.with_suffix(".json")
    said = json.loads(sidecar.read_text())
    said["files"][table.name] = sha256(table)
    sidecar.write_text(json.dumps(said | {"checksum": checksum(said)}))
    found = found_in(copy)
    assert "is not the ledger that the tables give" in found["tables/claims.csv"]
    assert "quotes" in found["README.md"] and table.name not in " ".join(found)


def test_what_is_stale_is_named_with_the_reason(copy):
    sidecar = copy / "tables" / "taba13_datasets.json"
    said = json.loads(sidecar.read_text())
    fresh = said | {"code": code_record(code_cells(copy / "nbs" / "experiments" / "taba13_datasets.ipynb"))}
    sidecar.write_text(json.dumps(fresh | {"checksum": checksum(fresh)}))
    assert "tables/taba13_datasets.csv" not in found_in(copy, "stale")
    old = fresh | {"code": fresh["code"] | {"alloys": "0" * 16}, "versions": {"numpy": "1.0"}, "parameters": {"x": 1}}
    sidecar.write_text(json.dumps(old | {"checksum": checksum(old)}))
    why = found_in(copy, "stale")["tables/taba13_datasets.csv"]
    assert "code of alloys;" in why and "x 1 → nothing" in why and "numpy 1.0 → " in why


def test_the_command_fails_for_what_is_wrong_and_not_for_what_is_stale(copy, capsys):
    assert main(["verify", "--folder", str(copy)]) == 0
    assert "whole" in capsys.readouterr().out and (copy / BADGE).read_text().startswith("<svg")
    (copy / "figures" / "mine.csv").write_text("x\n1\n")
    assert main(["verify", "--folder", str(copy)]) == 1
    assert "1 wrong" in capsys.readouterr().err and "1 wrong" in (copy / BADGE).read_text()
