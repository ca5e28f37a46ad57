"""Build the site: `python docs/build.py` prepares the pages in _docs/source and lets Sphinx write _docs/html."""

import gc
import json
import re
import shutil
import subprocess
import sys
from tempfile import TemporaryDirectory

import matplotlib

matplotlib.use("agg")
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

from xyield.estimator import predict_command

TUTORIALS = sorted((NOTEBOOKS / "tutorials").glob("*.ipynb"))
EXPERIMENTS = sorted((NOTEBOOKS / "experiments").glob("*.ipynb"))
COLUMNS = 88  # of code on a page
ICON = re.compile(r'"?(?P<name>[a-z0-9-]+)"?:\[\d+,\d+,(?P<aliases>\[[^\]]*\]),"[0-9a-f]*",(?:"[^"]*"|\[[^\]]*\])\],?')

SEARCH = re.compile(r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>\s*')


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


def reflow():
    "Break the code of the pages at a width that fits; the notebooks themselves have longer lines."
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", "--isolated", "--no-cache",
                    "--no-respect-gitignore", "--line-length", str(COLUMNS), SOURCE], check=True)


def lighten():
    "Leave only those icons in the theme's files that the pages, or a script, name; no comments, no indentation."
    static, text = HTML / "_static", ""
    icons = static / "scripts" / "fontawesome.js"
    for path in [*HTML.rglob("*.html"), *static.rglob("*.js")]:
        if path != icons and "playground-data" not in path.name and "mathjax" not in path.parts:
            text += path.read_text()
    used = set(re.findall(r"fa-([a-z0-9-]+)", text))

    def kept(match):
        names = {match["name"], *re.findall(r'"([a-z0-9-]+)"', match["aliases"])}
        return match[0] if names & used else ""

    icons.write_text(ICON.sub(kept, icons.read_text()))
    for sheet in static.rglob("*.css"):
        css = re.sub(r"/\*.*?\*/", "", sheet.read_text(), flags=re.S)
        css = re.sub(r"(?:\.fa-[a-z0-9-]+,?)+\{--fa:[^}]*\}", "", css)  # for icons as a font, which are not used
        sheet.write_text(re.sub(r"\s+", " ", css))
    for script in static.glob("*.js"):
        script.write_text(re.sub(r"^[ \t]+|^[ \t]*//.*\n", "", script.read_text(), flags=re.M))
    for leftover in static.rglob("*.map"):
        leftover.unlink()
    for page in HTML.rglob("*.html"):  # no search as one types: the index is for the page that searches
        if page.name != "search.html":
            page.write_text(SEARCH.sub("", page.read_text()))


def mend_sources():
    "Take viewcode's ways back out of the pages of sources: they name the module that imports a thing."
    for path in (HTML / "_modules").rglob("*.html"):
        text = re.sub(r'<a class="viewcode-back"[^>]*>\[docs\]</a>', "", path.read_text())
        path.write_text(text.replace('<li><a href="builtins.html">builtins</a></li>', ""))


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
        **{f"schematic_{path.stem}": path.read_text().strip() for path in (DOCS / "schematics").glob("*.svg")},
        "chapters": f"{parts()}\n{contents(library_notebooks())}",
        "tutorials": f"{entries(TUTORIALS)}\n{contents(TUTORIALS)}",
        "members": str(sidecar["parameters"]["exported"]),
        "constant": f"{sidecar['constant_gpa']:.2f}",
        "coverage": f"{sidecar['within']['2 sigma']:.0%}",
        "spread_only": f"{sidecar['within']['2 spreads']:.0%}",
        "unseen_mse": f"{sidecar['mse_unseen_systems']:.3f}",
        "clone": f"git clone {REPOSITORY}\ncd {REPOSITORY.split('/')[-1]}\n" if REPOSITORY else "",
        "install": INSTALL,
        "predicted": predict_command("MoNbTaTiW", "298.15,1273.15"),
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
    write_page_data(MATHJAX / "playground-data.js")
    write_reference()
    reflow()


if __name__ == "__main__":
    gc.disable()  # it takes a third of the time, and hardly anything can go before the end
    prepare()
    failed = build_main(["-q", "-W", "--keep-going", "-j", "2", "-b", "html", "-c", str(DOCS),
                         "-d", str(BUILD / "doctrees"), str(SOURCE), str(HTML)])
    lighten()
    mend_sources()
    sys.exit(failed)
