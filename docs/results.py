"""The page with every table and figure as it stands, and the numbers that the home page quotes."""

import functools
import json
import re
import shutil
from pathlib import Path

import pandas as pd
from site_paths import NOTEBOOKS, ROOT, SETTINGS, SOURCE

from xyield.alloys import PALETTE
from xyield.experiments import Task, read_tasks
from xyield.measurements import measurements
from xyield.paper import TABLE2
from xyield.simulator import yield_strength

LONG = 45  # lines of a table that is folded


@functools.cache
def _made_by() -> dict[str, Task]:
    "`tables/tab02_few_shot.json` -> the notebook, as a task, that says it leaves that."
    return {file: task for task in read_tasks(NOTEBOOKS / "experiments").values() for file in task.leaves}


def _task(sidecar: Path) -> Task:
    return _made_by()[f"{sidecar.parent.name}/{sidecar.name}"]


def experiment_of(sidecar: Path) -> Path:
    "The notebook that leaves an artefact."
    return _task(sidecar).notebook


def first_lines(notebook: Path) -> tuple[str, str]:
    "Title and purpose of a notebook."
    text = "".join(json.loads(notebook.read_text())["cells"][0]["source"])
    title, _, purpose, *_ = text.splitlines()
    return title.removeprefix("# "), purpose.removeprefix("> ")


def artefacts() -> list[Path]:
    "Sidecars of tables and figures: the paper's in its order, then those beyond it."
    def order(path):
        place = re.match(r"(tab|fig)(a?)(\d+)", path.stem)
        return (0, place[2], int(place[3]), path.stem) if place else (1, "", 0, path.stem)

    return sorted([*ROOT.glob("tables/*.json"), *ROOT.glob("figures/*.json")], key=order)


COMMANDS = {"speed": "make bench", "reproduction": "make cost"}  # what leaves the artefacts that no experiment does


def _provenance(sidecar: Path, content: dict) -> str:
    commit = content.get("commit") or ""
    data = Path(content["artefact"]).name
    parts = [f"profile `{content['profile']}`", f"commit [`{commit[:7]}`]({SETTINGS['git_url']}/commit/{commit[:40]})"]
    if sidecar.stem in COMMANDS:  # no experiment leaves it
        parts.append(f"`{COMMANDS[sidecar.stem]}`")
    else:
        notebook = experiment_of(sidecar)
        parts.append(f"`make {_task(sidecar).part}`")
        parts.append(f"notebook [{notebook.stem}](/experiments/{notebook.stem}.ipynb)")
    folder = f"/{sidecar.parent.name}"
    parts += [f"[data]({folder}/{data})", f"[parameters and versions]({folder}/{sidecar.name})"]
    return "{.provenance}\n" + " · ".join(parts)


def _section(sidecar: Path) -> tuple[str, str]:
    "Title and Markdown of one artefact."
    content, folder = json.loads(sidecar.read_text()), sidecar.parent.name
    markdown, picture = sidecar.with_suffix(".md"), sidecar.with_suffix(".png")
    if markdown.is_file():
        title, _, body = markdown.read_text().partition("\n")
        title = title.removeprefix("# ")
        lines = re.sub(r"^Profile: `.*`\.\n", "", body.strip(), flags=re.M).strip().splitlines()
        rows = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
        body = "\n".join(lines)
        if sidecar.stem == "claims":  # a page of its own
            body = "Every claim with its verdict and numbers is on the page [The paper's claims](claims.md)."
        elif rows > LONG:
            table, rest = "\n".join(lines[:rows]), "\n".join(lines[rows:])
            body = f"::::{{dropdown}} All {rows - 2} rows\n{table}\n::::\n{rest}"
    else:
        title, purpose = first_lines(experiment_of(sidecar))
        twin = ROOT / "tables" / f"{sidecar.stem}.md"  # the table of the same name, whose title says more
        if twin.is_file():
            title = twin.read_text().splitlines()[0].removeprefix("# ") + " (figure)"
        body = f"{purpose}\n\n```{{image}} /{folder}/{picture.name}\n:alt: {title}\n:class: artefact\n```"
    return title, f"(artefact-{folder}-{sidecar.stem})=\n## {title}\n\n{_provenance(sidecar, content)}\n\n{body}\n"


def write_results(template: str):
    "The page `reproduce`, and copies of the data beside it."
    for folder in ("tables", "figures"):
        shutil.copytree(ROOT / folder, SOURCE / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md"))
    rows, sections = [], []
    for sidecar in artefacts():
        title, text = _section(sidecar)
        content = json.loads(sidecar.read_text())
        rows.append(f"| [{title}](#artefact-{sidecar.parent.name}-{sidecar.stem}) | {sidecar.parent.name[:-1]} "
                    f"| `{content['profile']}` | `{(content.get('commit') or '')[:7]}` |")
        sections.append(text)
    overview = "| result | kind | profile | commit |\n|---|---|---|---|\n" + "\n".join(rows)
    experiments = "\n".join(f"experiments/{p.stem}" for p in sorted((NOTEBOOKS / "experiments").glob("*.ipynb")))
    toctree = f"```{{toctree}}\n:hidden:\n\n{experiments}\n```\n"
    (SOURCE / "reproduce.md").write_text(
        template.replace("%OVERVIEW%", overview).replace("%SECTIONS%", "\n".join(sections)) + toctree)


METHOD_IN_WORDS = {
    "no_pretraining": "trained on the measurements alone",
    "pretrain_transfer": "pretrained on the simulator, then transferred",
    "handtune": "the same, pruned by magnitude in both stages",
    "birpt": "Bi-RPT, the paper's method",
}


def _cell(table: pd.DataFrame, mean: str, ci95: str) -> str:
    return f"{table[mean].item():.3f} ± {table[ci95].item():.3f}" if len(table) else "–"


def quoted_numbers() -> dict[str, str]:
    "What the hand-written pages quote, from the tables as they stand: `%name%` -> text."
    points = measurements()
    simulated = yield_strength(points[list(PALETTE)], points["temperature"])
    ours = pd.read_csv(ROOT / "tables" / "tab02_few_shot.csv").query("metric == 'mse'")
    paper = TABLE2[TABLE2["metric"] == "mse"]
    rows = ["| test MSE (GPa²) | 23 points: best epoch | last | paper | 11 points: best epoch | last | paper |",
            "|---|---|---|---|---|---|---|"]
    for method in ours["method"].unique():
        cells = []
        for fraction in (0.10, 0.05):
            mine = ours[(ours["method"] == method) & (ours["fraction"] == fraction)]
            theirs = paper[(paper["method"] == method) & (paper["fraction"] == fraction)]
            cells += [_cell(mine[mine["selection"] == which], "ours_mean", "ours_ci95") for which in ("best", "last")]
            cells.append(_cell(theirs, "mean", "ci95"))
        rows.append(f"| {METHOD_IN_WORDS.get(method, method)} | " + " | ".join(cells) + " |")
    return {"n_points": str(len(points)),
            "n_alloys": str(points["formula"].nunique()), "table2": "\n".join(rows),
            "simulator_mse": f"{((simulated - points['yield_strength']) ** 2).mean():.3f}"}
