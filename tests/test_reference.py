"""The API reference: every parameter is described, and every public name is shown in use."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import reference  # noqa: E402


def documented_objects():
    "Full name -> class, function or method that has an entry."
    for module, _ in reference.modules():
        for name in importlib.import_module(module).__all__:
            obj = getattr(importlib.import_module(module), name)
            if inspect.isclass(obj) or inspect.isroutine(obj) or hasattr(obj, "py_func"):
                yield f"{module}.{name}", obj
            for method, function in vars(obj).items() if inspect.isclass(obj) else ():
                shown = not reference.skip_nothing_public(None, "method", method, function, False, None)
                if inspect.isfunction(function) and shown:
                    yield f"{module}.{name}.{method}", function


OBJECTS = dict(documented_objects())


def test_every_parameter_is_described():
    missing = []
    for full, obj in OBJECTS.items():
        try:
            entries = reference.documented(obj)
        except (TypeError, OSError, ValueError):  # made at run time
            entries = {}
        missing += [f"{full}.{name}" for name, entry in entries.items()
                    if name != "return" and not reference.described(full, name, entry)]
    assert len(OBJECTS) > 300 and not missing, f"no comment beside them, and not in docs/parameters.yml: {missing}"


def test_glossary_has_no_parameter_that_does_not_need_it():
    "Each entry is used; a comment beside the parameter would make it one fact in two places."
    used = set()
    for full, obj in OBJECTS.items():
        try:
            entries = reference.documented(obj)
        except (TypeError, OSError, ValueError):
            continue
        for name, entry in entries.items():
            own = f"{full.removeprefix('xyield.')}.{name}"
            if not (entry.get("docment") or "").strip():
                used.add(own if own in reference.glossary() else name)
    assert set(reference.glossary()) <= used, set(reference.glossary()) - used


@pytest.mark.parametrize("full", [name for name in OBJECTS if name.count(".") == 2])
def test_public_name_is_shown_in_use(full):
    path, code, _ = reference.example(full)
    assert full.split(".")[-1] in code and path.is_file()
    assert len(code.splitlines()) <= reference.LONGEST
