"""The container, the catalogue and the configuration fit the repository; what `make portability` counts is right."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tests.benchmarks.portability import compare, in_words
from tests.benchmarks.processors import made_elsewhere

ROOT = Path(__file__).parents[1]
KNOWN = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "ENTRYPOINT", "CMD", "ARG", "LABEL", "USER"}


def instructions(text):
    "(word, rest) of each instruction of a Dockerfile."
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def test_dockerfile_has_known_instructions_and_copies_what_is_there():
    found = instructions((ROOT / "Dockerfile").read_text())
    assert found[0][0] == "FROM" and {word for word, _ in found} <= KNOWN
    for word, rest in found:
        if word in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list)
        if word == "COPY":
            *sources, target = rest.split()
            assert target.endswith("/") and all((ROOT / source).exists() for source in sources)
        if word == "RUN":
            assert rest.count('"') % 2 == 0 and not rest.rstrip().endswith("&&")
    assert len([rest for word, rest in found if word == "CMD"]) == 1


def test_container_installs_the_lock_with_its_hashes_on_a_python_that_it_is_for():
    found = instructions((ROOT / "Dockerfile").read_text())
    image, version = re.fullmatch(r"(python):([\d.]+)-slim-bookworm", found[0][1]).groups()
    project = (ROOT / "pyproject.toml").read_text()
    assert image == "python" and f"{version}.0" in SpecifierSet(re.search(r'requires-python = "(.+)"', project)[1])
    installs = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert installs and all("--require-hashes --requirement requirements.lock" in rest for rest in installs)


@pytest.mark.skipif(sys.platform != "linux", reason="ldd is Linux's")
def test_container_has_the_libraries_that_wheels_load_and_a_slim_image_lacks():
    wheels = [Path(find_spec(name).origin).parent for name in ("lightgbm", "cv2")]
    binaries = [path for folder in wheels for path in folder.rglob("*.so")]
    assert len(binaries) >= 2
    loaded = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=True).stdout
    packages = {"libgomp.so.1": "libgomp1", "libGL.so.1": "libgl1", "libglib-2.0.so.0": "libglib2.0-0"}
    installs = " ".join(rest for word, rest in instructions((ROOT / "Dockerfile").read_text()) if "apt-get" in rest)
    for library, package in packages.items():
        assert (library in loaded) == (package in installs.split()), library


def test_container_runs_targets_that_the_makefile_has():
    targets = set(re.findall(r"^([a-z]+)[\w -]*:", (ROOT / "Makefile").read_text(), re.M)) | {"reproduce", "test"}
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "Apptainer.def").read_text()
    given = " ".join(re.findall(r"(?:xyield|xyield\.sif) ([\w ]+) profile=", text)).split()
    used = {*re.findall(r"make (\w+)", text), *given}
    assert {"setup", "reproduce", "archive"} <= used <= targets


def test_apptainer_starts_from_the_docker_image():
    text = (ROOT / "Apptainer.def").read_text()
    head = dict(re.findall(r"^(\w+): (.+)$", text.split("%")[0], re.M))
    assert head["Bootstrap"] in ("docker-daemon", "docker") and head["From"] == "xyield:latest"
    assert set(re.findall(r"^%(\w+)$", text, re.M)) == {"help", "runscript"}
    assert "docker build -t xyield ." in (ROOT / "Dockerfile").read_text()


def test_every_key_of_the_configuration_is_documented_with_its_default():
    read = dict(re.findall(r'config\.get\("(\w+)", "?(\w+)"?\)', (ROOT / "Snakefile").read_text()))
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", (ROOT / "config" / "README.md").read_text(), re.M)
    assert read == dict(rows) and len(read) >= 2
    profiles = set(re.findall(r"`(laptop|paper|smoke)`", (ROOT / "config" / "README.md").read_text()))
    assert profiles == {p.stem for p in (ROOT / "profiles").glob("*.yml")}


def test_catalogue_entry_is_what_the_catalogue_reads():
    entry = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(entry) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(entry["mandatory-flags"]) == {"desc", "flags"}
    assert all(isinstance(value, bool) for value in entry["software-stack-deployment"].values())


def test_a_table_of_another_arithmetic_is_compared_cell_by_cell(tmp_path):
    first, other = tmp_path / "first.csv", tmp_path / "other.csv"
    first.write_text("method,mse_mean,mse_ci95,seconds,paper_mean\na,1.0,0.1,3,\nb,2.0,0.1,4,5\nc,3.0,,5,6\n")
    other.write_text("method,mse_mean,mse_ci95,seconds,paper_mean\na,1.05,0.1,9,\nb,2.5,0.1,9,5\nc,3.0,,9,6\n")
    assert in_words(compare(first, first)) == "to the digit"
    found = compare(first, other)
    assert (found["cells"], found["same"], found["means"], found["within"]) == (12, 10, 2, 1)
    assert (found["largest"], found["largest_relative"]) == (0.5, 0.25)
    other.write_text(first.read_text().replace("b,2.0", "B,2.0"))
    assert compare(first, other)["same"] == 11
    other.write_text(first.read_text().replace("b,2.0", "b,"))
    assert compare(first, other)["largest"] == float("inf")


def test_tables_of_two_processors_are_compared_where_nothing_else_differs():
    before = {"code": {"masks": "1"}, "parameters": {"seed": 0}, "profile": "laptop", "machine": {"processor": "first"}}
    assert made_elsewhere(before, before | {"machine": {"processor": "second"}})
    assert not made_elsewhere(before, before)
    for change in ({"code": {"masks": "2"}}, {"parameters": {"seed": 1}}, {"profile": "smoke"}):
        assert not made_elsewhere(before, before | {"machine": {"processor": "second"}} | change)
