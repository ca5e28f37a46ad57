"""The page with every table and figure as it stands, and the numbers that the home page quotes."""

import functools
import html
import json
import re
import shutil
from pathlib import Path

import pandas as pd
from ledger import status_of
from PIL import Image
from site_paths import NOTEBOOKS, REPOSITORY, ROOT, SOURCE, served

from xyield.alloys import PALETTE
from xyield.experiments import Task, read_tasks
from xyield.measurements import measurements
from xyield.paper import TABLE2
from xyield.phases import several_phases
from xyield.simulator import yield_strength

LONG = 45  # lines of a table that gets a box of its own to scroll in
CORNER = (9, 4)  # rows and columns of a table's thumbnail


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


COMMANDS = {  # what leaves the artefacts that no experiment does
    "speed": "make bench", "reproduction": "make cost", "portability": "make portability",
    "processors": "tests/benchmarks/processors.py", "gpu": "tests/gpu_check.py"}


def _provenance(sidecar: Path, content: dict) -> str:
    commit = content.get("commit") or ""
    data = Path(content["artefact"]).name
    at = f"[`{commit[:7]}`]({REPOSITORY}/commit/{commit[:40]})" if REPOSITORY else f"`{commit[:7]}`"
    parts = [f"profile `{content['profile']}`", f"commit {at}"]
    if sidecar.stem in COMMANDS:  # no experiment leaves it
        parts.append(f"`{COMMANDS[sidecar.stem]}`")
    else:
        notebook = experiment_of(sidecar)
        parts.append(f"`make {_task(sidecar).part}`")
        parts.append(f"notebook `{notebook.name}`")
    files = {"data": sidecar.with_name(data), "parameters and versions": sidecar}
    parts += [f'<a href="{"" if sidecar.stem in COMMANDS else "../"}{served(file)}" download>{label}</a>'
              for label, file in files.items()]
    return "{.provenance}\n" + " · ".join(parts)


def _anchor(sidecar: Path) -> str:
    return f"artefact-{sidecar.parent.name}-{sidecar.stem}"


def title_of(sidecar: Path) -> str:
    "What an artefact is called: a table by its own first line, a figure by that of its table or of its notebook."
    for markdown in (sidecar.with_suffix(".md"), ROOT / "tables" / f"{sidecar.stem}.md"):
        if markdown.is_file():
            title = markdown.read_text().partition("\n")[0].removeprefix("# ")
            return title if markdown.parent == sidecar.parent else f"{title} (figure)"
    title, leaves = first_lines(experiment_of(sidecar))[0], _task(sidecar).leaves
    several = sum(file.endswith(".json") for file in leaves) > 1
    return f"{title} ({sidecar.stem.replace('_', ' ')})" if several else title


def _table(sidecar: Path) -> tuple[list[str], str]:
    "The rows of a table in Markdown, and what stands below them."
    body = sidecar.with_suffix(".md").read_text().partition("\n")[2]
    lines = re.sub(r"^Profile: `.*`\.\n", "", body.strip(), flags=re.M).strip().splitlines()
    rows = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [line.replace(" ± ", "\u00a0±\u00a0") for line in lines[:rows]], "\n".join(lines[rows:])


def section(sidecar: Path, page: str = "") -> str:
    "Markdown of one artefact, with its history, for a page with a title."
    content, title = json.loads(sidecar.read_text()), title_of(sidecar)
    if sidecar.stem == "claims":  # a page of its own
        body = "Every claim with its verdict and numbers is on the page [The paper's claims](/claims.md)."
    elif sidecar.with_suffix(".md").is_file():
        rows, rest = _table(sidecar)
        table = "\n".join(rows)
        body = f"::::{{div}} tall\n{table}\n::::\n\n{rest}" if len(rows) > LONG else f"{table}\n\n{rest}"
    else:
        purpose = first_lines(experiment_of(sidecar))[1]
        body = f"```{{image}} /figures/{sidecar.stem}.png\n:alt: {title}. {purpose}\n:class: artefact\n```"
    heading = "Result" if title == page else title
    return f"({_anchor(sidecar)})=\n## {heading}\n\n{body}\n\n{_provenance(sidecar, content)}\n"


def results_of(notebook: Path) -> list[Path]:
    "The sidecars of what an experiment has left in this repository."
    return [s for s in artefacts() if s.stem not in COMMANDS and experiment_of(s) == notebook]


def _thumbnail(sidecar: Path) -> tuple[str, str]:
    "Options and body of a card: a small picture, or the upper left corner of a table."
    picture = sidecar.with_suffix(".png")
    if picture.is_file():
        small = SOURCE / "thumbnails" / f"{sidecar.stem}.webp"
        small.parent.mkdir(exist_ok=True)
        with Image.open(picture) as image:
            image = image.convert("RGB")
            image.thumbnail((560, 360))
            image.save(small, quality=75)
        return f":img-top: /thumbnails/{small.name}\n:img-alt: {title_of(sidecar)}\n", ""
    rows = [[cell.strip(" *`") for cell in row.strip("|").split("|")] for row in _table(sidecar)[0]]
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row[:CORNER[1]]) + "</tr>"
                    for row in [*rows[:1], *rows[2:CORNER[0]]])
    return "", f'```{{raw}} html\n<div class="corner" aria-hidden="true"><table>{cells}</table></div>\n```\n'


def _card(sidecar: Path) -> str:
    "An artefact in the gallery: how it looks, what the claims make of it, and where it comes from."
    content = json.loads(sidecar.read_text())
    options, corner = _thumbnail(sidecar)
    status = status_of(sidecar) or "no claim rests on it"
    commit = (content.get("commit") or "")[:7]
    return (f"::::{{grid-item-card}} {title_of(sidecar)}\n:link: {_anchor(sidecar)}\n:link-type: ref\n{options}\n"
            f"{corner}\n:::{{card-footer}}\n{status}<br>profile `{content['profile']}`, commit `{commit}`\n:::\n::::\n")


def gallery() -> str:
    "All artefacts, the paper's in its order, then the others."
    found = {"The paper's tables and figures": [], "Beyond the paper": []}
    for sidecar in artefacts():
        beyond = not re.match(r"(tab|fig)a?\d", sidecar.stem)
        found["Beyond the paper" if beyond else "The paper's tables and figures"].append(_card(sidecar))
    grid = ":::::{grid} 1 2 3 3\n:gutter: 3\n:class-container: gallery\n"
    return "\n".join("\n".join([f"## {title}\n", grid, *cards, ":::::\n"]) for title, cards in found.items())


def write_results(template: str):
    "The page `reproduce`, and copies of the figures beside it."
    shutil.copytree(ROOT / "figures", SOURCE / "figures", ignore=shutil.ignore_patterns("*[!g]"))
    order = {experiment_of(s).stem: None for s in artefacts() if s.stem not in COMMANDS}
    order |= dict.fromkeys(p.stem for p in sorted((NOTEBOOKS / "experiments").glob("*.ipynb")))
    toctree = "```{toctree}\n:hidden:\n\n" + "\n".join(f"experiments/{name}" for name in order) + "\n```\n"
    others = "\n".join(section(s) for s in artefacts() if s.stem in COMMANDS)
    (SOURCE / "reproduce.md").write_text(
        template.replace("%GALLERY%", gallery()).replace("%OTHERS%", others) + toctree)


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
    return {"n_points": str(len(points)), "n_several": str(len(several_phases())),
            "n_alloys": str(points["formula"].nunique()), "table2": "\n".join(rows),
            "simulator_mse": f"{((simulated - points['yield_strength']) ** 2).mean():.3f}"}
