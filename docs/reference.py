"""The API reference: one page a module, with the comments beside each parameter as its description."""

import ast
import functools
import importlib
import inspect
import json
import re
from pathlib import Path

import yaml
from fastcore.docments import docments
from site_paths import DOCS, NOTEBOOKS, PARTS, ROOT, SOURCE, library_notebooks, page_of


@functools.cache
def modules() -> list[tuple[str, Path]]:
    "Names of the modules in the order of their notebooks, with the notebook."
    found = []
    for path in library_notebooks():
        code = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        names = [m[1] for text in code if (m := re.match(r"#\| *default_exp +(\w+)", text))]
        found += [(f"xyield.{name}", path) for name in names]
    return found


@functools.cache
def public_names() -> dict[str, str]:
    "Public name -> full name, for all modules; a name that two modules have is left out."
    found, twice = {}, set()
    for module, _ in modules():
        for name in importlib.import_module(module).__all__:
            twice |= {name} if name in found else set()
            found[name] = f"{module}.{name}"
    return {name: full for name, full in found.items() if name not in twice}


def rst(text: str) -> str:
    "A docstring's Markdown code and mathematics as reStructuredText; known names become links."
    names = public_names()

    def code(text):
        name = text.removesuffix("()")
        short = name.split(".")[-1]
        if name in names or name == names.get(short):
            return f":py:obj:`~{names[short]}`"
        return f"``{text}``"

    parts = re.split(r"(?<![`$])(`[^`\n]+`|\$[^$\n]+\$)(?![`$])", text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.sub(r"([|*])", r"\\\1", part)
        else:
            parts[i] = f":math:`{part[1:-1]}`" if part.startswith("$") else code(part[1:-1])
    return "".join(parts)


def _annotation(anno) -> str:
    if anno is inspect.Parameter.empty or anno is None:
        return ""
    return anno if isinstance(anno, str) else inspect.formatannotation(anno).replace("pathlib.", "")


@functools.cache
def glossary() -> dict[str, str]:
    "What a parameter means where no comment stands beside it."
    return yaml.safe_load((DOCS / "parameters.yml").read_text())


def described(full: str, name: str, entry: dict) -> str:
    "The comment beside a parameter, else what the glossary says; `full` is such as `xyield.masks.gate`."
    comment = " ".join((entry.get("docment") or "").split())
    return comment or glossary().get(f"{full.removeprefix('xyield.')}.{name}") or glossary().get(name, "")


def documented(obj) -> dict[str, dict]:
    "Parameters of `obj`, and `return`; none for a class that has no `__init__` of its own."
    if inspect.isclass(obj):
        start = inspect.getattr_static(obj, "__init__", object.__init__)
        if not inspect.isfunction(start) or start.__module__.startswith("pydantic"):
            return {}
    return {name: entry for name, entry in docments(obj, full=True, returns=True).items() if name != "self"}


def parameter_fields(obj, full: str = "") -> list[str]:
    "reStructuredText fields from the comments beside the parameters of `obj`."
    lines = []
    for name, entry in documented(obj).items():
        said = described(full, name, entry) if name != "return" else " ".join((entry.get("docment") or "").split())
        anno, comment = _annotation(entry.get("anno")), rst(said)
        if name == "return":
            lines += [f":returns: {comment}"] if comment else []
            lines += [f":rtype: ``{anno}``"] if anno else []
        elif comment or anno:
            lines += [f":param {name}: {comment}", *([f":type {name}: ``{anno}``"] if anno else [])]
    return lines


def document_parameters(app, what, name, obj, options, lines):
    "Sphinx's hook: complete a docstring."
    text = rst("\n".join(lines)).splitlines()
    if what == "class" and inspect.isclass(obj) and (obj.__doc__ or "").startswith(f"{obj.__name__}("):
        text = []  # the signature that `dataclass` writes when there is no docstring
    if what in ("function", "method", "class"):
        try:
            text += ["", *parameter_fields(obj, name)]
        except (TypeError, OSError, ValueError):  # built from C, or made at run time: nothing is written beside it
            pass
        text += example_lines(name)
    lines[:] = [*text, ""]


def skip_nothing_public(app, what, name, obj, skip, options):
    "Sphinx's hook: methods without a docstring are left out, as are names with an underscore and scikit-learn's own."
    borrowed = re.fullmatch(r"set_\w+_request", name)
    return True if name.startswith("_") or borrowed or not getattr(obj, "__doc__", None) else skip


# ---------------------------------------------------------------- examples, from the notebooks
LONGEST = 14  # lines of an example


def _statements(source: str) -> list[tuple[ast.stmt, str]]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a shell command
        return []
    lines = source.splitlines()
    return [(node, "\n".join(lines[node.lineno - 1 : node.end_lineno])) for node in tree.body]


def _used(node: ast.stmt) -> set[str]:
    "Names that a statement uses, beside those that it imports."
    if isinstance(node, ast.Import | ast.ImportFrom):
        return set()
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return names | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


@functools.cache
def demonstrations() -> list[tuple[Path, list, str]]:
    "The code cells that show something: notebook, statements, text of the output."
    found = []
    for path in [*library_notebooks(), *sorted((NOTEBOOKS / "tutorials").glob("*.ipynb")),
                 *sorted((NOTEBOOKS / "experiments").glob("*.ipynb"))]:
        for cell in json.loads(path.read_text())["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or re.search(r"^#\| *(export|hide|default_exp)", source, re.M):
                continue
            output = "".join("".join(o.get("text") or o.get("data", {}).get("text/plain", "")) for o in cell["outputs"])
            statements = _statements(re.sub(r"^#\|.*\n", "", source, flags=re.M))
            found.append((path, [(node, text, _used(node)) for node, text in statements], output))
    return found


def _shortened(name: str, statements: list) -> str:
    "The statements of a cell, or those that use the name where all would be too long."
    whole = "\n".join(text for _, text, _ in statements)
    if whole.count("\n") < LONGEST:
        return whole
    using = [text for _, text, used in statements if name in used]
    return "\n".join(min(using, key=len).splitlines()[:LONGEST])


def example(full: str) -> tuple[Path, str, str] | None:  # notebook, code, output where the code is the whole cell
    "How the notebooks use a public name, such as `xyield.masks.gate`: its own chapter first, where it is shown best."
    _, module, name, *method = full.split(".")
    wanted, own = (method or [name])[0], dict(modules())[f"xyield.{module}"]
    best = None
    for position, (path, statements, output) in enumerate(demonstrations()):
        using = [(node, text) for node, text, used in statements if wanted in used]
        if not using:
            continue
        code = _shortened(wanted, statements)
        whole = code == "\n".join(text for _, text, _ in statements)
        shown = bool(output) and whole
        quality = (wanted in code, path == own, path.parent.name != "experiments", shown, "test_" not in code,
                   -position)
        if best is None or quality > best[0]:
            best = quality, (path, code, output if whole else "")
    return best[1] if best else _in_use(wanted, own)


@functools.cache
def _exported() -> list[tuple[Path, str]]:
    found = []
    for path in library_notebooks():
        cells = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        found += [(path, re.sub(r"^#\|.*\n", "", text, flags=re.M)) for text in cells if text.startswith("#| export")]
    return found


def _in_use(name: str, own: Path) -> tuple[Path, str, str] | None:
    "Lines of the package that use a name for which no cell is a demonstration."
    others = [*sorted((ROOT / "tests").glob("test_*.py")), ROOT / "Snakefile", ROOT / "Makefile"]
    elsewhere = [(path, path.read_text()) for path in others]
    for path, source in [*sorted(_exported(), key=lambda pair: pair[0] != own), *elsewhere]:
        lines = source.splitlines()
        for i, line in enumerate(lines):
            only_named = re.match(r"\s*(from|import|#|\"[^:]*\"$)", line)
            if re.search(rf"(?<!def )(?<!class )\b{name}\b", line) and not only_named:
                return path, inspect.cleandoc("\n" + "\n".join(lines[i : i + 4])), ""
    return None


def example_lines(full: str) -> list[str]:
    "reStructuredText of the example, folded."
    found = example(full) if full.startswith("xyield.") and full.count(".") >= 2 else None
    if found is None:
        return []
    path, code, output = found
    short = [line[:110] for line in output.strip("\n").splitlines()[:8]]
    place = f":doc:`/{page_of(path)}`" if page_of(path) else f"``{path.relative_to(ROOT)}``"
    language = "python" if path.suffix else "text"  # a Makefile
    lines = ["", f"Example, from {place}:", "", f".. code-block:: {language}", ""]
    lines += [f"   {line}" for line in code.splitlines()]
    if short and not output.startswith("<"):
        lines += ["", ".. code-block:: text", "", *(f"   {line}" for line in short)]
    return [*lines, ""]


def constant(module, name: str) -> list[str]:
    "A constant with the comment beside it and, when it is short, its value."
    source = inspect.getsource(module)
    found = re.search(rf"^{name}\b[^=\n]*=[^\n#]*?(?:#\s*(.*))?$", source, re.M)
    value = repr(getattr(module, name))
    lines = [f".. py:data:: {name}", f"   :module: {module.__name__}"]
    if len(value) <= 140 and "\n" not in value and " at 0x" not in value:
        lines.append(f"   :value: {value}")
    return [*lines, "", f"   {rst(found[1]) if found and found[1] else ''}", ""]


def module_page(name: str, notebook: Path) -> str:
    "The reference of one module, as reStructuredText."
    module = importlib.import_module(name)
    purpose = (module.__doc__ or "").strip()
    lines = [name, "=" * len(name), "", rst(purpose), "",
             f"Chapter: :doc:`/chapters/{notebook.stem}`", "", f".. py:module:: {name}", ""]
    for public in module.__all__:
        obj = getattr(module, public)
        full = f"{name}.{public}"
        if inspect.isclass(obj):
            lines += [f".. autoclass:: {full}", "   :members:", ""]
        elif inspect.isroutine(obj) or hasattr(obj, "py_func"):  # numba's functions wrap a plain one
            lines += [f".. autofunction:: {full}", ""]
        else:
            lines += constant(module, public)
    return "\n".join(lines) + "\n"


def write_reference():
    "All pages of the reference."
    folder = SOURCE / "api"
    folder.mkdir(parents=True, exist_ok=True)
    rows, part = [], None
    for name, notebook in modules():
        if notebook.parent.name != part:
            part = notebook.parent.name
            rows.append(f"| **{PARTS[part][0]}** | {PARTS[part][1]} |")
        (folder / f"{name.removeprefix('xyield.')}.rst").write_text(module_page(name, notebook))
        purpose = (importlib.import_module(name).__doc__ or "").strip()
        rows.append(f"| [`{name}`]({name.removeprefix('xyield.')}.rst) | {purpose} |")
    pages = "\n".join(name.removeprefix("xyield.") for name, _ in modules())
    (folder / "index.md").write_text(
        "# API reference\n\nTemperatures are in K, strengths in GPa, compositions are atomic fractions in the order of "
        "the palette; `[n, 11]` is a shape. Each page is made from the comments and docstrings of the code.\n\n"
        "| module | what it is about |\n|---|---|\n" + "\n".join(rows) +
        f"\n\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n")
