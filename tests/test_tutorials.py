"""The tutorials run from the installed package alone, answers included, and are shown as run."""

import json
import re
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = sorted((Path(__file__).parents[1] / "nbs" / "tutorials").glob("*.ipynb"))
ANSWER = re.compile(r"```python\n(.*?)```", re.S)


def name(notebook):
    return notebook.stem


def with_answers(path):
    "The notebook, with the code of its folded answers as cells where they stand."
    notebook = nbformat.read(path, as_version=4)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown" and "<details>" in cell.source:
            cells += [nbformat.v4.new_code_cell(code) for code in ANSWER.findall(cell.source)]
    notebook.cells = cells
    return notebook


@pytest.mark.parametrize("path", TUTORIALS, ids=name)
def test_tutorial_has_exercises_with_folded_answers_and_is_shown_as_run(path):
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    title, _, purpose, *_ = texts[0].splitlines()
    assert title.startswith("# Tutorial ") and purpose.startswith("> ")
    text = "\n".join(texts)
    assert len(re.findall(r"^\*\*[a-z]\.\d\*\*", text, re.M)) == text.count("<summary>") >= 3
    outputs = [o for c in cells if c["cell_type"] == "code" for o in c["outputs"]]
    assert outputs
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize("path", TUTORIALS, ids=name)
def test_tutorial_and_its_answers_run_away_from_the_checkout(path, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.getbasetemp() / "tutorials"  # shared, as a learner's folder would be
    elsewhere.mkdir(exist_ok=True)
    monkeypatch.delenv("XYIELD_RUNS", raising=False)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    began = time.monotonic()
    NotebookClient(with_answers(path), timeout=600, kernel_name="python3",
                   resources={"metadata": {"path": str(elsewhere)}}).execute()
    print(f"{path.stem}: {time.monotonic() - began:.0f} s")
    assert (elsewhere / "runs").is_dir() or "pretrain" not in path.read_text()
