"""Verdicts come from rows, and prose quotes them as they are."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from xyield.claims import KINDS, QUANTITIES, QUOTE, VERDICTS, Tables, ledger, read_claims, read_errata, requoted
from xyield.experiments import read_tasks
from xyield.verify import as_quoted, prose

CLAIMS = {claim["id"]: claim for claim in read_claims()}


class Altered(Tables):
    "The committed tables, each changed as it is read."

    def __init__(self, folder, change):
        super().__init__(folder)
        self.change = change

    def _read(self, name):
        return self.change(super()._read(name))


@pytest.fixture(scope="module")
def now(root):
    return ledger(Tables(root))


def verdicts(table):
    return table.drop_duplicates("claim").set_index("claim")["verdict"]


def asked_by(claim):
    return [test for kind in KINDS for test in claim.get(kind, [])]


def tables_of(said):
    "Names of all tables in a test, wherever they stand."
    if isinstance(said, dict):
        own = said.get("table")
        each = said.get("each", {}).get("table", [])
        return {*each, *([own] if isinstance(own, str) else [])}.union(*map(tables_of, said.values()))
    return set().union(*map(tables_of, said)) if isinstance(said, list) else set()


# ---------------------------------------------------------------- verdicts
def test_there_are_claims_of_every_section_and_verdict(now):
    heads = now.drop_duplicates("claim")
    heads = heads[heads["quote"] != ""]
    assert len(heads) >= 40
    assert set(heads["verdict"]) == set(VERDICTS)
    places = " ".join(heads["place"])
    assert all(re.search(rf"\b{place}", places) for place in "abstract 1 3 4 4.1 5.1 5.2 B C D".split())


def test_committed_ledger_is_what_the_tables_give(root, now):
    committed = pd.read_csv(root / "tables" / "claims.csv", keep_default_na=False)
    text = [column for column in now if column not in ("value", "ci95")]
    pd.testing.assert_frame_equal(committed[text], now[text].reset_index(drop=True), check_dtype=False)
    for column in ("value", "ci95"):
        np.testing.assert_allclose(committed[column].astype(float), now[column], rtol=1e-9, atol=1e-12)


def test_verdicts_turn_with_the_rows(root, now):
    swap = {"birpt": "pretrain_transfer", "pretrain_transfer": "birpt"}

    def turned(table):  # what Bi-RPT gained is lost
        columns = [c for c in table if c.startswith("gain_mean")]
        table = table.assign(**{c: -table[c] for c in columns})
        return table.assign(method=table["method"].replace(swap)) if "method" in table and not columns else table

    before, after = verdicts(now), verdicts(ledger(Altered(root, turned)))
    for claim in ("sparsity-cuts-mse", "pretraining-helps-accuracy", "softening-wins-few-shot"):
        assert before[claim] in ("confirmed", "partly"), claim
    assert after["sparsity-cuts-mse"] == after["pretraining-helps-accuracy"] == "refuted"
    assert (before != after).sum() >= 5


def test_nothing_is_decided_when_intervals_are_endless(root, now):
    wide = ledger(Altered(root, lambda t: t.assign(**{c: 1e6 for c in t if "ci95" in str(c)})))
    own = {name for name, claim in CLAIMS.items() if {"mean", "correlation"} & {t["of"] for t in asked_by(claim)}}
    computed = (now["kind"] != "printed") & (now["ci95"] > 0) & ~now["claim"].isin(own)
    assert computed.sum() > 100
    assert set(wide.loc[computed, "outcome"]) == {"open"}


def test_thresholds_decide(root, now):
    claim = CLAIMS["pretraining-cuts-mse"]
    strict = claim | {"tests": [claim["tests"][0] | {"above": 99}]}
    assert verdicts(now)["pretraining-cuts-mse"] == "confirmed"
    assert verdicts(ledger(Tables(root), [strict])).item() == "refuted"


def test_what_is_missing_is_named(root, tmp_path):
    for kind in ("tables", "figures"):
        (tmp_path / kind).mkdir()
    missing = r"claim measured-points: the table dataset_counts is not there; expected .*tables/dataset_counts\.csv"
    with pytest.raises(ValueError, match=missing):
        ledger(Tables(tmp_path))
    without = Altered(root, lambda t: t[t["method"] != "birpt"] if "method" in t else t)
    with pytest.raises(ValueError, match=r"claim headline-mse: tab02_few_shot has no row with .*'birpt'.*method is"):
        ledger(without, [CLAIMS["headline-mse"]])
    assert set(ledger(without, [CLAIMS["headline-mse"]], strict=False).query("kind == 'tests'")["outcome"]) == {"open"}
    twice = Altered(root, lambda t: pd.concat([t, t]))
    with pytest.raises(ValueError, match=r"2 rows with columns .*expected one row"):
        ledger(twice, [CLAIMS["headline-accuracy"]])


def test_every_quantity_is_used_and_few_are_enough():
    used = {test["of"] for claim in CLAIMS.values() for test in asked_by(claim)}
    assert used == set(QUANTITIES)
    assert len(QUANTITIES) <= 12


def test_ledger_is_made_after_all_that_it_reads(root):
    "What `make search` makes, in hours, is read as it is committed."
    tasks = read_tasks(root / "nbs" / "experiments")
    made_by = {leaf: task for task in tasks.values() for leaf in task.leaves}
    read = {name for name in tables_of(list(CLAIMS.values())) if not name.startswith("paper.")}
    files = {f"{name}.csv" if "/" in name else f"tables/{name}.csv" for name in read}
    makers = [made_by[file] for file in files]
    assert {task.name for task in makers if task.part == "reproduce"} <= set(tasks["claims"].after)


# ---------------------------------------------------------------- prose
def test_prose_quotes_verdicts_and_numbers_as_they_are(root, now):
    wrong = [path.name for path in prose(root) if as_quoted(path, now) != path.read_text()]
    assert not wrong, f"{wrong} disagree with the ledger; run `make quotes`, and read what it changes"


def test_prose_disagrees_with_another_ledger(root, now):
    other = now.assign(verdict=now["verdict"].replace({"confirmed": "refuted"}))
    assert [p for p in prose(root) if p.stem == "index" and as_quoted(p, other) != p.read_text()]


def test_readme_quotes_all_four_outcomes(root, now):
    text = (root / "README.md").read_text()
    quoted = {match[3] for match in QUOTE.finditer(text)}
    assert {"sparsity-cuts-mse", "sparsity-raises-accuracy", "folds-sparsity", "birpt-costs-images"} <= quoted
    assert {"alternation-share", "gp-wins-ten-folds", "magnitude-beats-birpt-images", "screening-one-system"} <= quoted
    assert requoted(text, now) == text


# ---------------------------------------------------------------- errata
def test_every_erratum_has_its_proof_in_the_tutorial(root):
    cells = json.loads((root / "nbs" / "tutorials" / "e_reading_critically_errata.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    proved = re.findall(r'^proves\("([\w-]+)"', code, re.M)
    errata = read_errata()
    assert sorted(proved) == sorted(name for name, erratum in errata.items() if not erratum["wording"])
    assert "240" in errata["points-238"]["doubt"]
