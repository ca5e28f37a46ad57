"""The experiments say what they are, and Snakemake believes them: rules, order, code they rest on, parameters."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest

from xyield.experiments import read_tasks
from xyield.store import closure, imports
from xyield.verify import BADGE

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "nbs" / "experiments").glob("*.ipynb"))
TASKS = read_tasks(ROOT / "nbs" / "experiments")
BIN = Path(sys.executable).parent
PARAMETERS = 'profile: str = "laptop"\noutput: str = "."\nseed: int = 0\nrates: list = [0.1]'
RECORDED = "from xyield.experiments import current_parameters\n\nparameters = current_parameters()"


def notebook(path, said, *code):
    "Write an experiment: its declaration, its parameters, then cells of `code`."
    cells = [nbformat.v4.new_markdown_cell(f"```yaml\n{said}\n```"),
             nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
             *map(nbformat.v4.new_code_cell, code)]
    python = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=python), path)
    return path


def code_cells(path):
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


@pytest.fixture
def checkout(tmp_path):
    "A copy of what Snakemake reads, and a function that asks it for the rules it would run."
    for folder in ("nbs/experiments", "profiles", "xyield"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Snakefile", "settings.ini"):
        shutil.copy(ROOT / file, tmp_path)

    def rules(profile="smoke", *targets):
        environment = {k: v for k, v in os.environ.items() if k != "XYIELD_MASTER"} | {
            "XYIELD_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(tmp_path),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        command = [BIN / "snakemake", "--cores", "1", "--dry-run", "--config", f"profile={profile}", "--", *targets]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        words = done.stdout + done.stderr
        if done.returncode:
            raise ValueError(words)
        return dict(re.findall(r"^(?:local)?rule (\w+):\n((?: +.*\n)+)", words, re.M))

    return tmp_path, rules


def test_every_notebook_is_a_rule_in_every_profile(checkout):
    folder, rules = checkout
    for profile in sorted((folder / "profiles").glob("*.yml")):
        assert set(rules(profile.stem, "all", "search")) == {"all", "search", *TASKS}, profile


def test_searches_have_a_target_of_their_own(checkout):
    _, rules = checkout
    searches = {name for name, task in TASKS.items() if task.part == "search"}
    assert searches and set(rules()) == {"all", *TASKS} - searches
    before = {name for search in searches for name in TASKS[search].after}
    assert set(rules("smoke", "search")) == {"search", *searches, *before}


def test_a_new_notebook_is_a_rule_and_nothing_else_has_to_be_touched(checkout):
    folder, rules = checkout
    notebook(folder / "nbs" / "experiments" / "mine.ipynb",
             "leaves: [tables/mine, figures/mine.svg]\nafter: [pretrain]", "from xyield import masks")
    mine = rules()["mine"]
    inputs, outputs = re.search(r"input: (.*)", mine)[1].split(", "), re.search(r"output: (.*)", mine)[1]
    assert {Path(p).name for p in inputs} == {"masks.py", "mine.ipynb", "pretrain_regression.ipynb",
                                              "pretrain_classification.ipynb"} | {f"{m}.py" for m in closure("masks")}
    for file in ("tables/mine.csv", "tables/mine.md", "tables/mine.json", "figures/mine.svg", "notebooks/mine.ipynb"):
        assert f"runs/smoke/{file}" in outputs


@pytest.mark.parametrize(("said", "words"), [
    ("leaves: [tables/mine]\nafter: [pretrian]", "mine.ipynb comes after 'pretrian'; expected of "),
    ("leaves: [tables/tab02_few_shot]", "tables/tab02_few_shot.csv is made by mine.ipynb and by tab02_few_shot.ipynb"),
    ("leaves: [movies/mine]", "mine.ipynb leaves 'movies/mine'; expected tables/NAME"),
    ("leaves: []\nvariants: {mine_too: {sead: 1}}", "mine.ipynb has no parameter sead; expected profile"),
    ("leaves: []\nvariants: {mine_too: {seed: a}}", "mine.ipynb: seed is 'a'; expected int"),
    ("leaves: []\nvariants: {tab02_momentum: {}}", "tab02_momentum is made by mine.ipynb and by tab02_few_shot.ipynb"),
    ("leaves: []\nneeds: [data.csv]", "mine.ipynb needs 'data.csv', which is not there"),
    ("leaves: []\nleaves: []", "mine.ipynb: leaves is there twice"),
    ("leaves: []\npart: searches", "mine.ipynb says part: searches; expected reproduce or search"),
    ("leaves: [", "mine.ipynb: while parsing"),
    ("after: [pretrain]", "mine.ipynb does not say what it leaves"),
])
def test_a_slip_is_named(tmp_path, said, words):
    for path in EXPERIMENTS:
        shutil.copy(path, tmp_path)
    (tmp_path / "settings.ini").touch()
    for needed in sorted({file for task in TASKS.values() for file in task.needs}):
        (tmp_path / needed).parent.mkdir(exist_ok=True)
        (tmp_path / needed).touch()
    notebook(tmp_path / "mine.ipynb", said)
    with pytest.raises(ValueError) as error:
        read_tasks(tmp_path)
    assert words in str(error.value)


def test_an_import_that_is_not_there_is_named(tmp_path):
    notebook(tmp_path / "mine.ipynb", "leaves: []", "def late():\n    from xyield.image_traning import trained")
    with pytest.raises(ValueError, match=r"mine\.ipynb imports xyield\.image_traning, which is not there"):
        read_tasks(tmp_path)


def test_snakemake_shows_the_slip_and_runs_nothing(checkout):
    folder, rules = checkout
    notebook(folder / "nbs" / "experiments" / "mine.ipynb", "leaves: []\nafter: [pretrian]")
    with pytest.raises(ValueError, match=r"WorkflowError(?s:.*)mine\.ipynb comes after 'pretrian'; expected of "):
        rules()


def test_what_uses_the_interval_is_made_again_when_it_changes(checkout):
    folder, rules = checkout
    home, = (p for p in (folder / "xyield").glob("*.py") if re.search(r"^def interval\(", p.read_text(), re.M))
    made = [*(folder / "runs" / "smoke" / file for task in TASKS.values() for file in task.leaves),
            *(folder / "runs" / "smoke" / "notebooks" / f"{name}.ipynb" for name in TASKS)]
    now = time.time()
    for file in made:  # as if, all at once
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (now, now))
    assert rules("smoke", "all", "search") == {}
    home.write_text(home.read_text().replace("def interval(", "def interval(  # changed\n", 1))
    os.utime(home, (now + 5, now + 5))
    again = set(rules("smoke", "all", "search")) - {"all", "search"}
    assert {"tab01_images", "taba05_images", "taba06_images", "taba07_images", "taba08_images", "taba09_images"} < again
    assert {name for name, task in TASKS.items() if home.stem in task.modules} <= again
    assert not {"figa05_representation", "fig02_distributions", "taba13_datasets"} & again


def test_no_experiment_goes_through_a_set():
    "The order of a set of text is another one in each process, and so would be the order of columns."
    for path in EXPERIMENTS:
        for cell in code_cells(path):
            loops = [n.iter for n in ast.walk(ast.parse(cell)) if isinstance(n, ast.For | ast.comprehension)]
            sets = [n for n in loops if any(isinstance(part, ast.Set | ast.SetComp) for part in (n, *(
                [n.left, n.right] if isinstance(n, ast.BinOp) else [])))]
            called = [n for n in loops if isinstance(n, ast.Call) and getattr(n.func, "id", "") in ("set", "frozenset")]
            assert not sets + called, f"{path.name}: {ast.unparse((sets + called)[0])}"


def test_the_closure_is_what_python_imports():
    code = "import sys, xyield.image_runs; print(*(m for m in sys.modules if m.startswith('xyield.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[1] for name in loaded} - {"store"} <= set(closure("image_runs"))
    code = "def f():\n    import xyield.kernel as k\n    from xyield import masks"
    assert imports(code) == {"kernel", "masks"}


def test_every_committed_artefact_is_left_by_one_experiment():
    committed = {f"{folder}/{p.name}" for folder in ("tables", "figures") for p in (ROOT / folder).iterdir()}
    made = [file for task in TASKS.values() for file in task.leaves]
    by_command = "speed", "reproduction", "portability", "processors", "gpu"  # COMMANDS of docs/results.py
    others = {f"tables/{name}.{kind}" for name in by_command for kind in ("csv", "json", "md")} | {BADGE}
    assert committed - others <= set(made)
    assert len(made) == len(set(made))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_parameters_are_recorded_and_never_retyped(path):
    cells = code_cells(path)
    assigned = [ast.unparse(node.value) for cell in cells for node in ast.walk(ast.parse(cell))
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "parameters"]
    assert assigned == ["current_parameters()"]
    declaring = [cell for cell in cells if all(isinstance(line, ast.AnnAssign) for line in ast.parse(cell).body)]
    assert len(declaring) == 1
    assert cells.index(declaring[0]) + 1 == next(i for i, c in enumerate(cells) if "current_parameters()" in c)


def given(tmp_path, **parameters):
    "The parameters that a notebook records, run by bare papermill."
    path = notebook(tmp_path / "mine.ipynb", "leaves: []", "other = 1", RECORDED, "rates.append(5)",
                    "import json, pathlib\npathlib.Path('given.json').write_text(json.dumps(parameters))")
    papermill.execute_notebook(str(path), None, parameters, kernel_name="python3", cwd=str(tmp_path),
                               progress_bar=False)
    return json.loads((tmp_path / "given.json").read_text())


def test_a_notebook_records_what_it_is_given(tmp_path):
    assert given(tmp_path) == {"seed": 0, "rates": [0.1]}
    assert given(tmp_path, seed=3, output="elsewhere") == {"seed": 3, "rates": [0.1]}


@pytest.mark.parametrize(("parameters", "words"), [({"sead": 3}, "has no parameter sead; expected profile, output"),
                                                   ({"seed": "3"}, "seed is '3'; expected int")])
def test_bare_papermill_stops_at_a_slip(tmp_path, parameters, words):
    with pytest.raises(papermill.PapermillExecutionError, match=words):
        given(tmp_path, **parameters)
    assert not (tmp_path / "given.json").exists()
