"""The page with every table and figure as it stands, and the numbers that the home page quotes."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
from notebooks import Pages
from site_paths import NOTEBOOKS, ROOT, SETTINGS, SOURCE

from xyield.measurements import measurements
from xyield.paper import TABLE2

LONG = 45  # lines of a table that is folded


def experiment_of(artefact: str) -> Path | None:
    "The notebook that leaves an artefact: of the same name, else the one that names it."
    notebooks = sorted((NOTEBOOKS / "experiments").glob("*.ipynb"))
    same = [p for p in notebooks if p.stem == artefact]
    naming = [p for p in notebooks if artefact in p.read_text()]
    family = [p for p in notebooks if p.stem.split("_")[0] == artefact.split("_")[0]]
    return next(iter([*same, *naming, *family]), None)


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


def _provenance(sidecar: Path, content: dict) -> str:
    notebook, commit = experiment_of(sidecar.stem), content.get("commit") or ""
    data = Path(content["artefact"]).name
    parts = [f"profile `{content['profile']}`", f"commit [`{commit[:7]}`]({SETTINGS['git_url']}/commit/{commit[:40]})"]
    if notebook:
        parts.append(f"notebook [{notebook.stem}](/experiments/{notebook.stem}.ipynb)")
    parts += [f"[data](/{sidecar.parent.name}/{data})", f"[parameters and versions](/{sidecar.parent.name}/{sidecar.name})"]
    return " · ".join(parts) + "\n{.provenance}"


def _section(sidecar: Path, pages: Pages) -> tuple[str, str]:
    "Title and Markdown of one artefact."
    content = json.loads(sidecar.read_text())
    markdown, picture = sidecar.with_suffix(".md"), sidecar.with_suffix(".png")
    if markdown.is_file():
        title, _, body = markdown.read_text().partition("\n")
        title = title.removeprefix("# ")
        body = re.sub(r"^Profile: `.*`\.\n", "", body.strip(), flags=re.M).strip()
        lines = body.splitlines()
        end = max((i for i, line in enumerate(lines[: len(lines)]) if line.startswith("|")), default=0)
        first = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
        if first > LONG:
            table = "\n".join(lines[:first])
            body = f"::::{{dropdown}} All {first - 2} rows\n{table}\n::::\n" + "\n".join(lines[first:])
        del end
    else:
        notebook = experiment_of(sidecar.stem)
        title, purpose = first_lines(notebook) if notebook else (sidecar.stem, "")
        if picture.is_file() and sidecar.with_suffix(".md").is_file() is False and (ROOT / "tables" / picture.stem).exists():
            title += ", figure"
        body = f"{purpose}\n\n```{{image}} /{sidecar.parent.name}/{picture.name}\n:alt: {title}\n:class: artefact\n```"
    return title, f"(artefact-{sidecar.parent.name}-{sidecar.stem})=\n## {title}\n\n{_provenance(sidecar, content)}\n\n{body}\n"


def write_results(template: str, pages: Pages):
    "The page `reproduce`, and copies of the data beside it."
    for folder in ("tables", "figures"):
        shutil.copytree(ROOT / folder, SOURCE / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md"))
    rows, sections = [], []
    for sidecar in artefacts():
        title, text = _section(sidecar, pages)
        content = json.loads(sidecar.read_text())
        rows.append(f"| [{title}](#artefact-{sidecar.parent.name}-{sidecar.stem}) | {sidecar.parent.name[:-1]} "
                    f"| `{content['profile']}` | `{(content.get('commit') or '')[:7]}` |")
        sections.append(text)
    overview = "| result | kind | profile | commit |\n|---|---|---|---|\n" + "\n".join(rows)
    experiments = "\n".join(f"experiments/{p.stem}" for p in sorted((NOTEBOOKS / "experiments").glob("*.ipynb")))
    toctree = f"```{{toctree}}\n:hidden:\n\n{experiments}\n```\n"
    (SOURCE / "reproduce.md").write_text(
        template.replace("%OVERVIEW%", overview).replace("%SECTIONS%", "\n".join(sections)) + toctree)


def quoted_numbers() -> dict[str, str]:
    "What the hand-written pages quote, from the tables as they stand: `%name%` -> text."
    ours = pd.read_csv(ROOT / "tables" / "tab02_few_shot.csv").query("metric == 'mse'")
    points = measurements()
    found = {"n_points": str(len(points)), "n_alloys": str(points["formula"].nunique()),
             "n_systems": str(points["system"].nunique())}
    rows = []
    for method in ours["method"].unique():
        name = {"no_pretraining": "trained on the measurements alone", "pretrain_transfer": "pretrained, then transferred",
                "handtune": "the same, pruned by hand in both stages", "birpt": "Bi-RPT, the paper's method"}.get(method, method)
        cells = []
        for fraction in (0.10, 0.05):
            for selection in ("best", "last"):
                row = ours.query("method == @method and fraction == @fraction and selection == @selection")
                cells.append(f"{row['ours_mean'].item():.3f} ± {row['ours_ci95'].item():.3f}" if len(row) else "")
            paper = TABLE2.query("method == @method and fraction == @fraction and metric == 'mse'")
            cells.append(f"{paper['mean'].item():.3f} ± {paper['ci95'].item():.3f}" if len(paper) else "–")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    found["table2"] = ("| test MSE (GPa²) | 23 points, best epoch | last epoch | paper | 11 points, best epoch | last epoch "
                       "| paper |\n|---|---|---|---|---|---|---|\n" + "\n".join(rows))
    return found
