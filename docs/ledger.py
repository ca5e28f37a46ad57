"""The page of the claims: each with its verdict, its numbers, and the table that they come from."""

import functools
import re
from pathlib import Path

import pandas as pd
from site_paths import ROOT

from xyield.claims import QUOTE, VERDICTS, number_text, read_errata
from xyield.paper import METHODS

BADGES = dict(zip(VERDICTS, ("success", "warning", "danger", "muted"), strict=True))
SECTIONS = {"abstract": "Abstract", "1": "1 Introduction", "3": "3 The benchmark", "4": "4 The method",
            "4.1": "4.1 Images", "5": "5 Alloys", "6": "6 Conclusions", "B": "Appendix B", "C": "Appendix C",
            "D": "Appendix D", "this edition": "What this edition says"}
KINDS = {"fresh": "Tested cleanly: with settings that no tested point had a part in",
         "testbed": "On the image testbed, where Fashion pairs stand for ImageNet and CUB-200",
         "printed": "In the numbers that the paper prints"}
SHORT = 6  # numbers that are shown without a click
WORDS = METHODS | {  # of parts
    "best": "best epoch", "last": "last epoch", "0.1": "10 % of the points", "0.05": "5 %",
    "clean_regression_10": "strength, 23 points", "clean_regression_5": "strength, 11 points",
    "clean_classification_10": "class, 23 points", "clean_classification_5": "class, 11 points",
    "clean_regression_folds": "strength, ten folds", "clean_classification_folds": "class, ten folds",
    "images_long_30": "noisy pairs, 30 a class", "images_long_10": "noisy pairs, 10 a class"}


def badge(verdict: str, before: str = "") -> str:
    return f"{{bdg-{BADGES[verdict]}}}`{before}{verdict}`"


@functools.cache
def committed() -> pd.DataFrame:
    "The ledger as it is committed."
    table = pd.read_csv(ROOT / "tables" / "claims.csv", keep_default_na=False)
    table[["value", "ci95"]] = table[["value", "ci95"]].apply(pd.to_numeric)
    return table


def _resting_on(sidecar: Path) -> pd.DataFrame:
    "A row for each claim that a table or figure decides, or answers cleanly: then the verdict is that answer."
    table = committed()
    ours = table[table["kind"].isin(["tests", "fresh"])]
    ours = ours.assign(verdict=ours["fresh"].where(ours["kind"] == "fresh", ours["verdict"]))
    name = sidecar.stem if sidecar.parent.name == "tables" else f"{sidecar.parent.name}/{sidecar.stem}"
    return ours[ours["table"] == name].drop_duplicates("claim")


def status_of(sidecar: Path) -> str:
    "How many claims rest on an artefact, by verdict, as badges."
    counts = _resting_on(sidecar)["verdict"].value_counts()
    return " ".join(badge(v, f"{counts[v]} ") for v in VERDICTS if v in counts)


def claims_on(sidecars: list[Path]) -> str:
    "What the ledger makes of some artefacts: a list of claims with their verdicts."
    rows = [_resting_on(s) for s in sidecars]
    heads = pd.concat(rows).drop_duplicates("claim") if rows else committed().head(0)
    lines = [f"- {badge(row['verdict'])} [{row['quote'] or row['asks']}](#claim-{row['claim']})"
             for _, row in heads.iterrows()]
    return "**Claims that rest on it**\n\n" + "\n".join(lines) if lines else ""


def quoted(text: str) -> str:
    "Markdown whose links to claims have become badges, or links to the page of the claims."
    def reference(match):
        label, claim = match["label"], match["claim"]
        if match[0].startswith("`"):
            return match[0]
        if label in BADGES:
            return f"{{bdg-ref-{BADGES[label]}}}`{label} <claim-{claim}>`"
        return f"[{label}](#claim-{claim})"

    pattern = QUOTE.pattern.replace("([^", "(?P<label>[^", 1).replace("#([", "#(?P<claim>[", 1)
    return re.sub(f"`[^`\n]*`|{pattern}", reference, text)


def _section(place: str) -> str:
    "Where a claim is shown: at the first of its places, \"4.1 (1)\" in 4.1, \"5.2, Table 2\" in 5, \"B.2\" in B."
    first = place.split(",")[0].split(" ")[0]
    return SECTIONS[next(key for key in (place, first, first[0]) if key in SECTIONS)]


def _source(table: str) -> str:
    "A link to where a table is shown."
    if str(table).startswith("paper."):
        return f"[{table.removeprefix('paper.')}](/chapters/17_paper.ipynb)"
    folder, _, name = table.rpartition("/")
    return f"[{name}](#artefact-{folder or 'tables'}-{name})"


def _numbers(rows: pd.DataFrame) -> str:
    lines = []
    for _, row in rows.iterrows():
        words = ", ".join(WORDS.get(word, word) for word in row["part"].split(", "))
        name = "" if words == "number" else f"{words}: ".replace("|", "\\|").replace("_", "\\_")
        lines.append(f"- {name}**{number_text(row)}**, {row['bounds']}: {row['outcome']}")
    sources = ", ".join(_source(name) for name in rows["table"].unique())
    text = "\n".join([*lines, "", f"{{.sources}}\nFrom {sources}"])
    return text if len(lines) <= SHORT else f"::::{{dropdown}} {len(lines)} numbers\n{text}\n::::"


def _claim(rows: pd.DataFrame) -> str:
    head = rows.iloc[0]
    words = f" “{head['quote']}”" if head["quote"] else ""
    place = f" <span class=\"place\">{head['place']}</span>" if head["quote"] else ""
    needs = f" This needs {head['needs']}." if head["needs"] else ""
    ours = rows[rows["kind"] == "tests"]
    if not head["needs"] and set(ours["outcome"]) == {"open"}:
        needs = " All intervals span the bound: our repeats are too few to tell."
    parts = [f"(claim-{head['claim']})=\n:::::{{card}}\n:class-card: claim\n",
             f"{badge(head['verdict'])}{words}{place}", f"*Asked:* {head['asks']}{needs}"]
    parts += [_numbers(ours)] if len(ours) else []
    for kind, title in KINDS.items():
        if head[kind]:
            parts.append(f"*{title}: {head[kind]}.*\n\n{_numbers(rows[rows['kind'] == kind])}")
    return "\n\n".join(parts) + "\n:::::\n"


def claims() -> dict[str, str]:
    "What the page of the claims has in place of `%claims%` and the like."
    table = committed()
    heads = table.drop_duplicates("claim")
    sections = heads["place"].map(_section)
    lines = ["| section | " + " | ".join(map(badge, VERDICTS)) + " |", "|---" * (len(VERDICTS) + 1) + "|"]
    text = []
    for title in SECTIONS.values():
        here = heads[sections == title]
        if len(here):
            lines.append(f"| {title} | " + " | ".join(str((here["verdict"] == v).sum() or "") for v in VERDICTS) + " |")
            text.append(f"## {title}\n\n" + "\n".join(_claim(table[table["claim"] == name]) for name in here["claim"]))
    errata = "\n".join(
        f"**{e['place']}**: {e['says']}\n: {e['found']}" + (f" *Doubtful: {e['doubt']}*" if e["doubt"] else "") + "\n"
        for e in read_errata().values())
    return {"overview": "\n".join(lines), "claims": "\n".join(text), "errata": errata}
