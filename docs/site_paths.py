"""Where the site's parts are, and what the project calls itself."""

import configparser
import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = ROOT / "nbs"
BUILD = ROOT / "_docs"
SOURCE = BUILD / "source"
HTML = BUILD / "html"


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
GITHUB = f"{SETTINGS['git_url']}/blob/{SETTINGS['branch']}"
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
