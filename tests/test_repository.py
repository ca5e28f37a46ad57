"""The repository agrees with itself: dependencies, exports, notebooks, README, profiles."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from nbdev.config import get_config

from xyield.command_line import COMMANDS
from xyield.experiments import notebook_parameters, read_profile

ROOT = Path(__file__).parents[1]
LIBRARY = [ROOT / "nbs" / "index.ipynb", *sorted((ROOT / "nbs").glob("[0-9]_*/*.ipynb"))]
EXPERIMENTS = sorted((ROOT / "nbs" / "experiments").glob("*.ipynb"))
BIN = Path(sys.executable).parent


def cells(notebook, kind):
    return [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def name(notebook):
    return notebook.stem


def test_dependencies_are_the_same_in_all_three_files():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    in_settings = settings["DEFAULT"]["requirements"].split()
    development = settings["DEFAULT"]["dev_requirements"].split()
    assert in_settings == project["dependencies"]
    assert development == project["optional-dependencies"]["dev"]
    assert [*in_settings, *development, "--editable ."] == next(d["pip"] for d in conda if isinstance(d, dict))
    assert f"python{project['requires-python']}" in conda
    assert project["requires-python"] == f">={settings['DEFAULT']['min_python']}"


def test_nbdev_reads_from_pyproject_what_settings_say():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "settings.ini")
    settings = dict(parser["DEFAULT"])
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, nbdev = pyproject["project"], pyproject["tool"]["nbdev"]
    config = get_config(ROOT)
    found = {key: " ".join(value) if isinstance(value, list) else str(value) for key, value in nbdev.items()}
    for key in "lib_name git_url version description author min_python".split():
        found[key] = getattr(config, key)  # from [project], or the package
    found["keywords"] = ", ".join(project["keywords"])
    found["console_scripts"] = "\n".join(f"{name}={function}" for name, function in project["scripts"].items())
    assert project["urls"].get("Homepage", "") == settings.pop("doc_host") + settings.pop("doc_baseurl")
    elsewhere = "requirements dev_requirements copyright license language audience status black_formatting".split()
    assert found == {key: value for key, value in settings.items() if key not in elsewhere}
    assert nbdev["allowed_cell_metadata_keys"] == ["tags"]  # text would be taken letter by letter


def test_no_file_names_an_address_that_the_settings_do_not():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    ours = settings["DEFAULT"]["git_url"], settings["DEFAULT"]["doc_host"]
    foreign = r"(github|gitlab)\.com[/:]xyield|xyield\.(github|gitlab)\.io"
    command = ["git", "grep", "-IliE", foreign, "--", ":!tests"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert any(ours) or not listed.stdout, listed.stdout
    assert listed.returncode in (0, 1), listed.stderr


def test_export_and_clean_leave_no_difference(tmp_path):
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for file in filter(None, listed.split("\0")):
        if (ROOT / file).is_file():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, tmp_path / file)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert tmp_path / "xyield" / "alloys.py" in before
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for command in ("nbdev-export", "nbdev-clean"):
        subprocess.run([BIN / command], cwd=tmp_path, check=True, env=environment)
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    changed = [str(p.relative_to(tmp_path)) for p in before.keys() | after.keys() if before.get(p) != after.get(p)]
    assert not changed


UNDRAWN = {"00_checks", "18_report", "19_image_world", "35_release", "36_store", "39_archive", "40_command_line",
           "41_bad_input"}


@pytest.mark.parametrize("notebook", LIBRARY[1:], ids=name)
def test_a_chapter_has_a_picture_unless_there_is_nothing_to_draw(notebook):
    kinds = {kind for cell in cells(notebook, "code") for output in cell["outputs"] for kind in output.get("data", {})}
    assert bool(kinds & {"image/png", "image/svg+xml"}) != (notebook.stem in UNDRAWN)


def test_readme_is_the_index_notebook(tmp_path):
    index = ROOT / "nbs" / "index.ipynb"
    where = ["--output-dir", tmp_path, "--output", "README.md"]
    subprocess.run([BIN / "jupyter", "nbconvert", "--to", "markdown", index, *where], check=True, capture_output=True)
    assert (tmp_path / "README.md").read_text() == (ROOT / "README.md").read_text()


def test_links_of_the_readme_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert len(targets) > 20
    assert not [target for target in targets if not (ROOT / target).exists()]


@pytest.mark.parametrize("notebook", LIBRARY + EXPERIMENTS, ids=name)
def test_notebook_opens_with_title_and_purpose_and_runs_on_python3(notebook):
    title, _, purpose, *_ = source(cells(notebook, "markdown")[0]).splitlines()
    assert title.startswith("# ")
    assert purpose.startswith("> ")
    assert json.loads(notebook.read_text())["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("notebook", LIBRARY, ids=name)
def test_library_notebook_is_shown_as_run_without_errors_or_warnings(notebook):
    code = [c for c in cells(notebook, "code") if "#| hide" not in source(c)]
    outputs = [o for c in code for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert len(json.dumps(outputs)) < 400_000
    assert outputs, "no cell of it was run"


@pytest.mark.parametrize("notebook", LIBRARY, ids=name)
def test_exported_cells_are_short(notebook):
    exported = [source(c) for c in cells(notebook, "code") if source(c).startswith("#| export")]
    assert max((text.count("\n") + 1 for text in exported), default=0) <= 60


@pytest.mark.parametrize("notebook", EXPERIMENTS, ids=name)
def test_experiment_is_stored_without_outputs_and_exports_nothing(notebook):
    for cell in cells(notebook, "code"):
        assert not cell["outputs"]
        assert "#| export" not in source(cell)
    assert [c for c in cells(notebook, "code") if "parameters" in c["metadata"].get("tags", [])]


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yml")), ids=name)
def test_profile_holds_only_what_differs_from_the_notebooks(profile):
    settings = read_profile(profile, ROOT / "nbs" / "experiments")
    for notebook in EXPERIMENTS:
        defaults = {parameter: default for parameter, (_, default) in notebook_parameters(notebook).items()}
        assert not [p for p, value in settings[notebook.stem].items() if value == defaults[p]], notebook.name


@pytest.mark.parametrize("sidecar", sorted(ROOT.glob("tables/*.json")) + sorted(ROOT.glob("figures/*.json")), ids=name)
def test_committed_artefact_is_complete_and_not_from_the_smoke_profile(sidecar):
    content = json.loads(sidecar.read_text())
    assert content["profile"] != "smoke"
    assert content["commit"] and "+changes" not in content["commit"]
    assert (sidecar.parent / content["artefact"]).is_file()
    assert sidecar.with_suffix(".md").is_file() or sidecar.with_suffix(".png").is_file()


def test_there_are_committed_artefacts():
    assert (ROOT / "tables" / "tab02_few_shot.csv").is_file()
    assert (ROOT / "figures" / "figa05_representation.png").is_file()


def test_simulator_does_not_import_torch():
    code = "import sys, xyield.simulator; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_make_calls_commands_that_are_there():
    called = re.findall(r"\(BIN\)/xyield (\w+)", (ROOT / "Makefile").read_text())
    assert {"archive", "cost", "unpack", "verify"} <= set(called) <= set(COMMANDS)
