"""Where the site's parts are, and what the project calls itself."""

import configparser
import importlib.util
import os
import shutil
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = ROOT / "nbs"
BUILD = ROOT / "_docs"
SOURCE = BUILD / "source"
HTML = BUILD / "html"
EXTRA = BUILD / "extra"  # what the site serves as it is: files of the repository, and the package


PARTS = {  # folder -> heading, and what the chapters in it are about
    "1_data": ("Data", "what goes in: alloys, measurements, a simulator; image pairs"),
    "2_method": ("Method", "what the paper invents: networks, masks, two levels of training; free of alloys"),
    "3_evaluation": ("Evaluation", "how it is judged: splits, runs, intervals, and the paper's numbers beside ours"),
    "4_beyond": ("Beyond the paper", "the whole design space, what others would use, and a model of our own"),
    "5_workshop": ("Workshop", "what keeps the machinery running"),
}


def _settings() -> dict:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "settings.ini")
    return dict(parser["DEFAULT"])


SETTINGS = _settings()
REPOSITORY = SETTINGS["git_url"]  # empty: the project has no address, and the site links to none
ADDRESS = SETTINGS["doc_host"] + SETTINGS["doc_baseurl"]  # of the site itself; empty: it is opened from a folder
WHEEL = f"xyield-{SETTINGS['version']}-py3-none-any.whl"
INSTALL = f"{ADDRESS}/files/{WHEEL}" if ADDRESS else f"git+{REPOSITORY}" if REPOSITORY else WHEEL  # what pip is told
PAGES = {  # files of the repository that have a page of another name
    "README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CITATION.cff": "cite.md",
    "tables/claims.md": "claims.md", "nbs/experiments": "reproduce.md", "nbs/tutorials": "tutorials/index.md",
}
MATHJAX = BUILD / "mathjax"


def mathjax_file() -> Path:
    "MathJax as one file, from the package that ships it; its name has hyphens, so it cannot be imported."
    package = Path(importlib.util.find_spec("sphinx").origin).parents[1] / "sphinx-mathjax-offline"
    return package / "static" / "mathjax" / "tex-svg-full.js"


def library_notebooks() -> list[Path]:
    "The chapters, in order."
    return sorted(NOTEBOOKS.glob("[0-9]_*/*.ipynb"))


def page_of(path: Path) -> str | None:
    "The site's page of a repository file, without extension; `None` if the file has no page."
    path = path.resolve()
    if path.suffix == ".ipynb" and path.is_relative_to(NOTEBOOKS) and path.is_file():
        inside = path.relative_to(NOTEBOOKS).with_suffix("")
        if str(inside) == "index":
            return "index"
        return str(Path("chapters", path.stem) if inside.parts[0][0].isdigit() else inside)
    return None


def document_of(file: Path) -> str | None:
    "The site's document that stands for a file or folder of the repository, relative to its root; `None` if none does."
    file = file.resolve()
    if file.is_relative_to(DOCS / "pages"):  # its links name pages that are not there yet
        return str(file.relative_to(DOCS / "pages"))
    page = page_of(file)
    if page:
        return f"{page}.{'md' if page == 'index' else 'ipynb'}"
    if file.parent == ROOT / "xyield" and file.suffix == ".py" and not file.stem.startswith("_"):
        return f"api/{file.stem}.rst"
    return PAGES.get(str(file.relative_to(ROOT))) if file.is_relative_to(ROOT) else None


def from_page(path: Path, target: str) -> str:
    "`target`, a path from the site's root, as the page made from `path` has to write it."
    return os.path.relpath(target, Path(document_of(path) or "index").parent)


@cache
def served(file: Path) -> str:
    "Where the site has a copy of a file of the repository, from the site's root."
    place = Path("files", file.resolve().relative_to(ROOT))
    (EXTRA / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, EXTRA / place)
    return str(place)
