"""From a notebook of the repository to a page: marks of nbdev go, links, equations and names become references."""

import ast
import json
import re
import zlib
from pathlib import Path

from ledger import claims_on, quoted
from results import results_of, section
from site_paths import (
    EXTRA,
    INSTALL,
    REPOSITORY,
    ROOT,
    SETTINGS,
    WHEEL,
    document_of,
    from_page,
    library_notebooks,
    served,
)

FENCE = re.compile(r"(^```.*?^```|^~~~.*?^~~~)", re.M | re.S)
EQUATION = re.compile(r"\$\$((?:(?!\$\$).)*?)\\tag\{(\w+)\}\s*\$\$", re.S)
MATH = re.compile(r"(\$\$.*?\$\$|(?<![\\$])\$[^$\n](?:[^$]*?[^$\\])?\$(?!\$))", re.S)
SPANS = re.compile(r"(<a [^\n]*?</a>|\[[^\]]*\]\([^)]*\)|\[[^\]]*\]\[[^\]]*\]|`[^`\n]+`|<[^>\n]+>|\{[^}\n]+\})")
HOW_MADE = ("## How it is made\n\n"
            "The notebook as it is stored, without outputs; [Reproduce](/reproduce.md) says how to run it.\n\n"
            "::::{dropdown} What it leaves, and after which others it runs\n")
WIDGETS = "application/vnd.jupyter.widget-view+json"


def chapters_by_number() -> dict[str, str]:
    "`11` -> `11_training`."
    return {path.stem.split("_")[0]: path.stem for path in library_notebooks()}


def tagged_equations(notebooks) -> dict[str, Path]:
    "The paper's equation number -> the first notebook that has it."
    found = {}
    for path in notebooks:
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                for _, tag in EQUATION.findall("".join(cell["source"])):
                    found.setdefault(tag, path)
    return found


class Pages:
    "All that a page needs to know about the others."

    def __init__(self, notebooks: list[Path], names: dict[str, str]):
        self.equations = tagged_equations(notebooks)
        self.names = names  # public name -> full name of what the API reference has
        self.chapters = chapters_by_number()

    def page(self, path: Path) -> dict:
        "The notebook at `path` as Sphinx is to see it."
        notebook = json.loads(path.read_text())
        cells, heading = [], ""
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                heading = (re.findall(r"^#+ +(.+)", FENCE.sub("", text), re.M) or [heading])[-1]
            cells += self._cell(cell, path, heading)
        if path.parent.name[0].isdigit():
            number, first = path.stem.split("_")[0], cells[0]
            first["source"] = re.sub("^# ", f"# {number} ", "".join(first["source"]))
        cells.insert(1, markdown(launch_links(path)))
        if path.parent.name == "experiments":
            cells = experiment(cells, path)
        language = {"name": "python", "pygments_lexer": "ipython3"}
        metadata = {"kernelspec": notebook["metadata"]["kernelspec"], "language_info": language}
        return notebook | {"cells": cells, "metadata": metadata}

    def _cell(self, cell: dict, path: Path, heading: str) -> list[dict]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            return [cell | {"source": self.prose(text, path)}]
        marks = set(re.findall(r"^#\| *(\w+)", text, re.M))
        if marks & {"hide", "default_exp"}:
            return []
        shown = re.sub(r"^#\|.*\n?", "", installed_from_here(text), flags=re.M).strip("\n")
        if not shown:
            return []
        tags = [*cell["metadata"].get("tags", []), *(["export"] if "export" in marks else [])]
        outputs, metadata = clean_outputs(cell["outputs"]), {}
        kind = plumbing(shown, outputs) if path.parent.name[0].isdigit() else None
        if kind and (kind == "imports" or "export" not in marks):
            tags.append("hide-input")
            metadata = {"code_prompt_show": f"Show the {kind}", "code_prompt_hide": f"Hide the {kind}"}
        said = re.search(r"^#\| *fig-alt: *(.+)", text, re.M)
        metadata["image"] = {"alt": said[1].strip("\"' ") if said else description(shown, heading)}
        new = cell | {"source": shown, "metadata": {"tags": tags, "mystnb": metadata}, "outputs": outputs}
        return [new, *self._api_links(shown, tags)]

    def _api_links(self, code: str, tags: list[str]) -> list[dict]:
        if "export" not in tags:
            return []
        defined = re.findall(r"^(?:(?:def|class) +(\w+)|([A-Z][A-Z0-9_]+) *=)", code, re.M)
        links = [f"{{py:obj}}`{name} <{self.names[name]}>`" for name in map("".join, defined) if name in self.names]
        return [markdown("{.api-links}\nReference: " + ", ".join(dict.fromkeys(links)))] if links else []

    def prose(self, text: str, path: Path) -> str:
        "Markdown with its links, equations, chapter numbers and names of the library turned into references."
        parts = FENCE.split(text)
        return "".join(part if i % 2 else self._prose(part, path) for i, part in enumerate(parts))

    def _prose(self, text: str, path: Path) -> str:
        text = quoted(text)
        text = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)]*)?\)", lambda m: self._link(m, path), text)
        text = EQUATION.sub(lambda m: self._equation(m, path), text)
        pieces = MATH.split(text)
        return "".join(p if i % 2 else self._words(p) for i, p in enumerate(pieces))

    def _link(self, match, path: Path) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        file = (path.parent / target).resolve()
        document = document_of(file)
        if document:
            return f"[{label}]({from_page(path, document)}{anchor})"
        if file.parent in (ROOT / "tables", ROOT / "figures") and file.with_suffix(".json").is_file():
            return f"[{label}](#artefact-{file.parent.name}-{file.stem})"
        if file.is_relative_to(ROOT) and file.is_file():
            return download(label, from_page(path, served(file)))
        return label if file.is_relative_to(ROOT) and file.is_dir() else match[0]

    def _equation(self, match, path: Path) -> str:
        body, tag = match[1].strip(), match[2]
        target = f"(eq-{tag})=\n" if self.equations.get(tag) == path else ""
        return f"\n\n{target}$$\n{body} \\tag{{{tag}}}\n$$\n\n"

    def _words(self, text: str) -> str:
        parts = SPANS.split(text)
        return "".join(self._name(p) if i % 2 else self._numbers(p) for i, p in enumerate(parts))

    def _name(self, text: str) -> str:
        found = re.fullmatch(r"`(?:xyield\.\w+\.)?(\w+)(\(.*\))?`", text)
        if found and found[1] in self.names:
            return f"{{py:obj}}`{found[1]}{found[2] or ''} <{self.names[found[1]]}>`"
        return text

    def _numbers(self, text: str) -> str:
        def equation(match):
            known = match[2] in self.equations
            return f"[{match[1]}{match[2]}](#eq-{match[2]})" if known else match[0]

        def chapter(match):
            stem = self.chapters.get(match[2])
            return f"[{match[1]} {match[2]}](/chapters/{stem}.ipynb)" if stem else match[0]

        text = re.sub(r"\b(Eq\. |Eqs )(\d+)", equation, text)
        text = re.sub(r"(?<=\[Eqs )(\d+)(\]\(#eq-\d+\))( and | to |, )(\d+)", lambda m: (
            f"{m[1]}{m[2]}{m[3]}" + (f"[{m[4]}](#eq-{m[4]})" if m[4] in self.equations else m[4])), text)
        return re.sub(r"\b([Cc]hapter) (\d\d)\b", chapter, text)


def experiment(cells: list[dict], path: Path) -> list[dict]:
    "The page of an experiment: what it left, what that says, and then how it is made."
    code = next(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    said = [cell for cell in cells[2:code] if not cell["source"].startswith("```yaml")]
    left = results_of(path)
    title = "".join(cells[0]["source"]).partition("\n")[0].removeprefix("# ")
    page = [markdown(section(sidecar, title)) for sidecar in left]
    place = re.match(r"((?:Table|Figure)s? \w+)", title)
    if place:
        page.insert(0, markdown(f"```{{index}} ! {place[1]}\n```"))
    if said:
        page += [markdown("## What it says"), *said]
    page += [markdown(text) for text in [claims_on(left)] if text]
    declared = next(cell["source"] for cell in cells if cell["source"].startswith("```yaml"))
    return [*cells[:2], *page, markdown(f"{HOW_MADE}{declared}\n::::"), *cells[code:]]


def plumbing(code: str, outputs: list[dict]) -> str | None:
    "What a cell is that a reader can do without at first; `None` for all others."
    try:
        lines = ast.parse(code).body
    except SyntaxError:  # a magic command
        return None
    if all(isinstance(line, ast.Import | ast.ImportFrom) for line in lines):
        return "imports"
    if not outputs and any(isinstance(node, ast.Assert) for line in lines for node in ast.walk(line)):
        return "test"
    draws = len(re.findall(r"\b(?:axis|axes|figure|plt|grid)\.", code))
    image = any("image/png" in output.get("data", {}) for output in outputs)
    return "code of the figure" if draws > 1 and (image or not outputs) else None


def description(code: str, heading: str) -> str:
    "A figure in words, from the labels that its code sets, as its alternative text."
    label = r"\b{}(?:=|\()[rf]*[\"']([^\"']+)[\"']"
    x, y, titles = (re.findall(label.format(name), code) for name in ("xlabel", "ylabel", r"(?:sup)?title"))
    names = list(dict.fromkeys(re.findall(label.format("label"), code)))
    axes = f"{y[0]} against {x[0]}" if x and y else "".join([*x[:1], *y[:1]])
    parts = [re.sub(r"[`*$]", "", heading), axes, ", ".join(dict.fromkeys(titles)), ", ".join(names)]
    return "Figure: " + "; ".join(part for part in parts if part)


def markdown(text: str) -> dict:
    return {"cell_type": "markdown", "id": f"{zlib.crc32(text.encode()):08x}", "metadata": {}, "source": text}


def clean_outputs(outputs: list[dict]) -> list[dict]:
    "Outputs without warnings, without widgets (a plot stands beside each), without style sheets from elsewhere."
    kept = []
    for output in outputs:
        if output.get("name") == "stderr" or WIDGETS in output.get("data", {}):
            continue
        html = output.get("data", {}).get("text/html")
        if html:
            html = re.sub(r'<link\s[^>]*href="https?:[^>]*>', "", "".join(html))
            html = re.sub(r"<th>\s*</th>", "<td></td>", html)  # pandas' corner
            html = re.sub(r"<img (?![^>]*\balt=)", '<img alt="An animation, drawn by the code above" ', html)
            output = output | {"data": output["data"] | {"text/html": html}}
        kept.append(output)
    return kept


def installed_from_here(code: str) -> str:
    "A cell that installs the package from a repository, with the address that the settings name."
    return re.sub(r"git\+https?://[^\s`'\"]+", INSTALL, code)


def download(label: str, address: str) -> str:
    return f'<a href="{address}" download>{label}</a>'


def notebook_file(path: Path) -> str:
    "Where the site has the notebook as it is in the repository; a tutorial installs from the site's own wheel."
    place = served(path)
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        cell["source"] = [installed_from_here(line) for line in "".join(cell["source"]).splitlines(keepends=True)]
    (EXTRA / place).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    return place


def launch_links(path: Path) -> str:
    "The notebook as a file; and, where the project has an address, ways to run or edit it there."
    links = [download("Download this notebook", from_page(path, notebook_file(path)))]
    if path.parent.name == "tutorials":
        links.append(download("the package that it needs", from_page(path, f"files/{WHEEL}")))
    if REPOSITORY:
        file, branch = path.relative_to(ROOT), SETTINGS["branch"]
        name = REPOSITORY.removeprefix("https://github.com/")
        links.append(f"[edit]({REPOSITORY}/edit/{branch}/{file})")
        if path.parent.name == "tutorials":
            links.append(f"[open in Colab](https://colab.research.google.com/github/{name}/blob/{branch}/{file})")
            links.append(f"[open in Binder](https://mybinder.org/v2/gh/{name}/{branch}?urlpath=lab/tree/{file})")
    return "{.launch-links}\n" + " · ".join(links)
