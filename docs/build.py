"""Build the site: `python docs/build.py` prepares the pages in _docs/source and lets Sphinx write _docs/html."""

import json
import re
import shutil
import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from notebooks import Pages  # noqa: E402
from playground import networks, write_page_data  # noqa: E402
from reference import public_names, write_reference  # noqa: E402
from results import quoted_numbers, write_results  # noqa: E402
from site_paths import (  # noqa: E402
    BUILD,
    DOCS,
    HTML,
    MATHJAX,
    NOTEBOOKS,
    ROOT,
    SOURCE,
    library_notebooks,
    mathjax_file,
    page_of,
)
from sphinx.cmd.build import build_main  # noqa: E402

from xyield.alloys import parse_formula  # noqa: E402
from xyield.simulator import yield_strength  # noqa: E402

TUTORIALS = sorted((NOTEBOOKS / "tutorials").glob("*.ipynb"))
EXPERIMENTS = sorted((NOTEBOOKS / "experiments").glob("*.ipynb"))


def home_figure(path):
    "One alloy that no network was trained on: simulator, networks before and after, measurements."
    alloy = pd.read_csv(ROOT / "tables" / "tab04_alloys.csv").query("alloy == 'MoNbTaTi'")
    kelvin = np.arange(280, 1301, 5.0)
    figure, axis = plt.subplots(figsize=(7.2, 3.7), layout="constrained")
    axis.plot(kelvin, yield_strength(parse_formula("MoNbTaTi"), kelvin), color="#b45309", label="simulator")
    for method, colour, label in (("no_pretraining", "0.55", "network, 23 measurements alone"),
                                  ("pretrain_transfer", "#1d4ed8", "network, pretrained on the simulator, then 23 measurements")):
        mean, spread = alloy[method], alloy[f"{method}_std"]
        axis.plot(alloy["temperature"], mean, color=colour, label=label)
        axis.fill_between(alloy["temperature"], mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
    axis.plot(alloy["temperature"], alloy["yield_strength"], "ko", label="measured")
    axis.set(xlabel="temperature (K)", ylabel="yield strength (GPa)", ylim=0, title="MoNbTaTi, not in any training set")
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def notation() -> str:
    "The notation table, from index.ipynb."
    cells = json.loads((NOTEBOOKS / "index.ipynb").read_text())["cells"]
    text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.search(r"^## Notation\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1].strip()


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
    notebooks = [*library_notebooks(), *TUTORIALS, *EXPERIMENTS]
    pages = Pages(notebooks, public_names())
    for path in notebooks:
        target = SOURCE / f"{page_of(path)}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(pages.page(path), ensure_ascii=False))
    _, sidecar = networks()
    values = quoted_numbers() | {
        "notation": notation(),
        "chapters": "\n".join(p.stem for p in library_notebooks()),
        "tutorials": "\n".join(p.stem for p in TUTORIALS),
        "members": str(sidecar["parameters"]["exported"]),
        "constant": f"{sidecar['constant_gpa']:.2f}",
        "coverage": f"{sidecar['within']['2 sigma']:.0%}",
        "spread_only": f"{sidecar['within']['2 spreads']:.0%}",
        "unseen_mse": f"{sidecar['mse_unseen_systems']:.3f}",
        "cff": (ROOT / "CITATION.cff").read_text().strip(),
    }
    for page in sorted((DOCS / "pages").rglob("*.md")):
        text = fill(page.read_text(), values)
        if page.stem == "reproduce":
            write_results(text, pages)
        else:
            target = SOURCE / page.relative_to(DOCS / "pages")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(pages.prose(text, target))
    home_figure(SOURCE / "home.png")
    write_page_data(MATHJAX / "playground-data.js")
    write_reference()


if __name__ == "__main__":
    prepare()
    sys.exit(build_main(["-q", "-W", "--keep-going", "-j", "2", "-b", "html", "-c", str(DOCS),
                         "-d", str(BUILD / "doctrees"), str(SOURCE), str(HTML)]))
