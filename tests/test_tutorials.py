"""The tutorials run from the installed package alone, answers included, and are shown as run."""

import json
import re
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
TUTORIALS = sorted((ROOT / "nbs" / "tutorials").glob("*.ipynb"))
ANSWER = re.compile(r"```python\n(.*?)```", re.S)
EXERCISE = re.compile(r"^\*\*([a-h]\.\d)\*\*( \(checks itself\))?", re.M)


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
    assert len(EXERCISE.findall(text)) == text.count("<summary>") >= 3
    assert "Afterwards you can\n\n- " in text
    assert re.search(r"^\*\*Time\*\*: \d+ minutes.* \*\*Before it\*\*: ", text, re.M)
    outputs = [o for c in cells if c["cell_type"] == "code" for o in c["outputs"]]
    assert outputs
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert path.stat().st_size < 400_000


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").rglob("*.ipynb")), ids=name)
def test_no_widget_draws_while_its_cell_runs(path):
    "nbclient answers an Output widget on the socket on which it waits for the cell's end, and may then not hear of it."
    code = "\n".join("".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code")
    assert not re.search(r"\b(interact|interactive|interactive_output|Output)\(", code)


def test_tutorials_are_taught_in_their_order():
    "Whatever a tutorial asks to be read before it comes before it."
    for path in TUTORIALS:
        text = "\n".join("".join(c["source"]) for c in json.loads(path.read_text())["cells"])
        needed = re.findall(r"\(([a-h])_\w+\.ipynb\)", re.search(r"\*\*Before it\*\*: (.*)", text)[1])
        assert all(letter < path.stem[0] for letter in needed), path
    hours = (ROOT / "docs" / "pages" / "teaching.md").read_text().split("## Copies for students")[0]
    taught = re.findall(r"tutorials/([a-h])_", hours)
    assert list(dict.fromkeys(taught)) == sorted(set(taught)) == [path.stem[0] for path in TUTORIALS]


def test_copies_of_students_have_no_answers_and_their_checks(tmp_path):
    from course import HIDDEN, SOLUTION, write_copies

    checked, all_exercises = [], []
    for path, copy in zip(TUTORIALS, write_copies(tmp_path), strict=True):
        original, students = (nbformat.read(p, as_version=4) for p in (path, copy))
        text = "\n".join(cell.source for cell in students.cells)
        assert not re.search("BEGIN|END|<details>|Answer", text)
        assert not [cell for cell in students.cells if cell.get("outputs")]
        answers = [a for c in original.cells for a in ANSWER.findall(c.source)]
        answers += [m[0] for c in original.cells for pattern in (SOLUTION, HIDDEN) for m in pattern.finditer(c.source)]
        for line in {line.strip() for answer in answers for line in answer.splitlines() if len(line.strip()) > 40}:
            given = "\n".join(HIDDEN.sub("", SOLUTION.sub("", c.source.split("<details>")[0])) for c in original.cells)
            assert line not in text or line in given, line
        exercises = EXERCISE.findall("\n".join(c.source for c in original.cells if c.cell_type == "markdown"))
        own = [exercise for exercise, checks in exercises if checks]
        assert len(own) == sum(bool(HIDDEN.search(c.source)) for c in original.cells) == text.count("(checks itself)")
        assert text.count("raise NotImplementedError") >= len(own)
        checked += own
        all_exercises += exercises
    assert len(checked) >= 6 and len(all_exercises) >= 2 * 6


def test_a_wrong_answer_does_not_pass_and_a_right_one_does(tmp_path):
    from course import grade, student_copy

    path = next(p for p in TUTORIALS if p.stem.startswith("b_"))
    copy = student_copy(path)
    stub = "    # YOUR CODE HERE\n    raise NotImplementedError"
    cell = next(c for c in copy.cells if c.source.endswith(stub))
    answers = {
        "empty": stub,
        "first term only": "    return 0.5 * (theta_star.detach() * gate(m, epsilon) - t).square().sum()",
        "right": "    g = gate(m, epsilon)\n    star = theta - rate * g * (theta * g - s)\n"
                 "    return (star * g - t).square().sum() / 2"}
    question, found = cell.source, {}
    for what, answer in answers.items():
        cell.source = question.replace(stub, answer)
        (tmp_path / what).mkdir()
        nbformat.write(copy, tmp_path / what / path.name)
        found[what] = grade(tmp_path / what / path.name)
    assert found == {"empty": {"b.3": False}, "first term only": {"b.3": False}, "right": {"b.3": True}}


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
