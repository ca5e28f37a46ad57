"""The API reference: one page a module, with the comments beside each parameter as its description."""

import importlib
import inspect
import json
import re
from pathlib import Path

from fastcore.docments import docments
from site_paths import PARTS, SOURCE, library_notebooks


def modules() -> list[tuple[str, Path]]:
    "Names of the modules in the order of their notebooks, with the notebook."
    found = []
    for path in library_notebooks():
        code = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        names = [m[1] for text in code if (m := re.match(r"#\| *default_exp +(\w+)", text))]
        found += [(f"xyield.{name}", path) for name in names]
    return found


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


def parameter_fields(obj) -> list[str]:
    "reStructuredText fields from the comments beside the parameters of `obj`."
    lines = []
    for name, entry in docments(obj, full=True, returns=True).items():
        anno, comment = _annotation(entry.get("anno")), rst(" ".join((entry.get("docment") or "").split()))
        if name == "self":
            continue
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
            text += ["", *parameter_fields(obj)]
        except (TypeError, OSError, ValueError):  # built from C, or made at run time: nothing is written beside it
            pass
    lines[:] = [*text, ""]


def skip_nothing_public(app, what, name, obj, skip, options):
    "Sphinx's hook: methods without a docstring are left out, as are names with an underscore."
    return True if name.startswith("_") or not getattr(obj, "__doc__", None) else skip


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
