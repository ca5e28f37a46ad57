"""The course without its answers: `python docs/course.py students FOLDER`; `python docs/course.py grade COPY.ipynb`.

The tutorials mark answers and hidden tests as nbgrader does. A student's copy has neither, nor the folded answers. To
grade it, its answers are put into the teacher's notebook, cell by cell, and the tests are run.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert.preprocessors import ClearOutputPreprocessor, Preprocessor
from site_paths import NOTEBOOKS

TUTORIALS = NOTEBOOKS / "tutorials"
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION", re.M | re.S)
HIDDEN = re.compile(r"^ *### BEGIN HIDDEN TESTS\n.*?^ *### END HIDDEN TESTS\n?", re.M | re.S)
FOLDED = re.compile(r"<details>.*?</details>\n*", re.S)
STUB = r"\1# YOUR CODE HERE\n\1raise NotImplementedError"


class ClearAnswers(Preprocessor):
    "A stub for each solution; no hidden tests, no folded answers, no cell that is empty then."

    def preprocess(self, nb, resources):
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.source = HIDDEN.sub("", SOLUTION.sub(STUB, cell.source)).rstrip("\n")
                cell.metadata.pop("tags", None)
            else:
                cell.source = FOLDED.sub("", cell.source).rstrip("\n")
        nb.cells = [cell for cell in nb.cells if cell.source.strip()]
        return nb, resources


def student_copy(path: Path):
    "The notebook at `path` as a student gets it."
    notebook = nbformat.read(path, as_version=4)
    for step in (ClearAnswers(), ClearOutputPreprocessor()):
        notebook, _ = step.preprocess(notebook, {})
    return notebook


def write_copies(folder: Path) -> list[Path]:
    "A student's copy of each tutorial."
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        copies.append(folder / path.name)
        nbformat.write(student_copy(path), copies[-1])
    return copies


def with_answers_of(copy, teacher):
    "The teacher's notebook, with the student's code where its own solutions are."
    theirs = {cell.id: cell.source for cell in copy.cells}
    for cell in teacher.cells:
        if cell.cell_type == "code" and SOLUTION.search(cell.source):
            cell.source = theirs.get(cell.id, SOLUTION.sub(STUB, cell.source))
    return teacher


def grade(path: Path) -> dict[str, bool]:  # exercise -> whether its tests pass, the hidden ones included
    "Run a copy that has come back; raises `ValueError` if there is no tutorial of its name."
    if not (TUTORIALS / path.name).is_file():
        names = ", ".join(sorted(tutorial.name for tutorial in TUTORIALS.glob("*.ipynb")))
        raise ValueError(f"{path.name} is no tutorial; expected one of {names}")
    notebook = with_answers_of(nbformat.read(path, as_version=4), nbformat.read(TUTORIALS / path.name, as_version=4))
    NotebookClient(notebook, timeout=600, kernel_name="python3", allow_errors=True,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    passed, exercise = {}, None
    for cell in notebook.cells:
        found = re.findall(r"^\*\*([a-z]\.\d)\*\*", cell.source, re.M) if cell.cell_type == "markdown" else []
        exercise = found[-1] if found else exercise
        if cell.cell_type == "code" and HIDDEN.search(cell.source):
            passed[exercise] = not any(output.output_type == "error" for output in cell.outputs)
    return passed


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("students", "grade"):
        sys.exit("usage: python docs/course.py students FOLDER | grade COPY.ipynb")
    if sys.argv[1] == "students":
        print(*write_copies(Path(sys.argv[2])), sep="\n")
    else:
        for exercise, good in grade(Path(sys.argv[2])).items():
            print(f"{exercise}: {'passed' if good else 'not passed'}")
