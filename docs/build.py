"""Build the site: `python docs/build.py` prepares the pages in _docs/source and lets Sphinx write _docs/html."""

import json
import re
import shutil
import subprocess
import sys
from tempfile import TemporaryDirectory

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from board import write_leaderboard
from ledger import claims
from notebooks import Pages
from playground import networks, write_page_data
from reference import public_names, write_reference
from results import first_lines, quoted_numbers, write_results
from site_paths import (
    BUILD,
    DOCS,
    EXTRA,
    HTML,
    INSTALL,
    MATHJAX,
    NOTEBOOKS,
    PARTS,
    REPOSITORY,
    ROOT,
    SOURCE,
    WHEEL,
    document_of,
    library_notebooks,
    mathjax_file,
    page_of,
)
from sphinx.cmd.build import build_main

from xyield.alloys import parse_formula
from xyield.simulator import yield_strength

TUTORIALS = sorted((NOTEBOOKS / "tutorials").glob("*.ipynb"))
EXPERIMENTS = sorted((NOTEBOOKS / "experiments").glob("*.ipynb"))


def home_figure(path):
    "Two alloys that no network was trained on: simulator, networks without and with it, measurements."
    table, kelvin = pd.read_csv(ROOT / "tables" / "tab04_alloys.csv"), np.arange(280, 1501, 5.0)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.7), layout="constrained", sharex=True, sharey=True)
    for axis, formula in zip(axes, ("MoNbTaTi", "HfMoNbTaTiZr"), strict=True):
        alloy = table[table["alloy"] == formula]
        axis.plot(kelvin, yield_strength(parse_formula(formula), kelvin), color="#b45309", label="simulator")
        for method, colour, label in (("no_pretraining", "0.55", "network, from 23 measurements"),
                                      ("pretrain_transfer", "#1d4ed8", "network, from the simulator, then from 23")):
            mean, spread = alloy[method], alloy[f"{method}_std"]
            axis.plot(alloy["temperature"], mean, color=colour, label=label)
            axis.fill_between(alloy["temperature"], mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        axis.plot(alloy["temperature"], alloy["yield_strength"], "ko", ms=5, label="measured")
        axis.set(xlabel="temperature (K)", title=formula)
    axes[0].set(ylabel="yield strength (GPa)", ylim=(0, None))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def of_readme(heading: str) -> str:
    "A section of index.ipynb."
    cells = json.loads((NOTEBOOKS / "index.ipynb").read_text())["cells"]
    text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1].strip()


def entries(notebooks: list) -> str:
    "Titles with purposes for a reader."
    rows = []
    for path in notebooks:
        title, purpose = first_lines(path)
        number = f"{path.stem.split('_')[0]} " if path.parent.name in PARTS else ""
        rows.append(f"**[{number}{title}]({path.name})**\n: {purpose}\n")
    return "\n".join(rows)


def contents(notebooks: list) -> str:
    "The hidden table of contents for Sphinx."
    return "```{toctree}\n:hidden:\n\n" + "\n".join(p.stem for p in notebooks) + "\n```"


def parts() -> str:
    "The chapters, a heading for each part."
    groups = {folder: [p for p in library_notebooks() if p.parent.name == folder] for folder in PARTS}
    return "\n".join(f"## {n} · {title}\n\n{about[0].upper()}{about[1:]}.\n\n{entries(groups[folder])}"
                     for n, (folder, (title, about)) in enumerate(PARTS.items(), start=1))


def build_wheel():
    "The package as the site serves it, for those who have no clone."
    (EXTRA / "files").mkdir(parents=True)
    with TemporaryDirectory() as folder:
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "xyield", f"{folder}/xyield", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
                        "--no-cache-dir", "--no-index", "--wheel-dir", EXTRA / "files", folder], check=True)
    if not (EXTRA / "files" / WHEEL).is_file():
        raise ValueError(f"no {WHEEL} was built; expected settings.ini and xyield to name the same version")


def fill(text: str, values: dict) -> str:
    for name, value in values.items():
        text = text.replace(f"%{name}%", value)
    left = re.findall(r"%[a-z_]+\d*%", text)
    if left:
        raise ValueError(f"a page names {', '.join(left)}; expected one of {', '.join(sorted(values))}")
    return text


def prepare():
    "Write all that Sphinx reads."
    shutil.rmtree(BUILD, ignore_errors=True)
    (MATHJAX / "mathjax").mkdir(parents=True)
    shutil.copy(mathjax_file(), MATHJAX / "mathjax")
    SOURCE.mkdir(parents=True)
    build_wheel()
    notebooks = [*library_notebooks(), *TUTORIALS, *EXPERIMENTS]
    pages = Pages(notebooks, public_names())
    for path in notebooks:
        target = SOURCE / f"{page_of(path)}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(pages.page(path), ensure_ascii=False))
    _, sidecar = networks()
    values = quoted_numbers() | claims() | {
        "notation": of_readme("Notation"),
        "outcomes": pages.prose(of_readme("What came out"), ROOT / "README.md"),
        "chapters": f"{parts()}\n{contents(library_notebooks())}",
        "tutorials": f"{entries(TUTORIALS)}\n{contents(TUTORIALS)}",
        "members": str(sidecar["parameters"]["exported"]),
        "constant": f"{sidecar['constant_gpa']:.2f}",
        "coverage": f"{sidecar['within']['2 sigma']:.0%}",
        "spread_only": f"{sidecar['within']['2 spreads']:.0%}",
        "unseen_mse": f"{sidecar['mse_unseen_systems']:.3f}",
        "clone": f"git clone {REPOSITORY}\ncd {REPOSITORY.split('/')[-1]}\n" if REPOSITORY else "",
        "install": INSTALL,
        "wheel": WHEEL,
        "cff": (ROOT / "CITATION.cff").read_text().strip(),
    } | write_leaderboard(SOURCE / "leaderboard.png")
    for page in sorted((DOCS / "pages").rglob("*.md")):
        text = fill(page.read_text(), values)
        if page.stem == "reproduce":
            write_results(text)
        else:
            target = SOURCE / page.relative_to(DOCS / "pages")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(pages.prose(text, page))
    contributing = ROOT / "CONTRIBUTING.md"
    (SOURCE / document_of(contributing)).write_text(pages.prose(contributing.read_text(), contributing))
    home_figure(SOURCE / "home.png")
    write_page_data(MATHJAX / "playground-data.js")
    write_reference()


if __name__ == "__main__":
    prepare()
    sys.exit(build_main(["-q", "-W", "--keep-going", "-j", "2", "-b", "html", "-c", str(DOCS),
                         "-d", str(BUILD / "doctrees"), str(SOURCE), str(HTML)]))
