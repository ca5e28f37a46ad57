"""Nothing goes out, nothing foreign comes in, nothing unpickles, no shell sees a parameter."""

import ast
import hashlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "xyield").glob("*.py")]

OFFLINE = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "socket.sendto"):
        raise RuntimeError(f"{event} {arguments}")
sys.addaudithook(refuse)
"""


def offline(code):
    "Run `code` in a process in which every connection is an error; audit hooks see what Python code cannot hide."
    return subprocess.run([sys.executable, "-c", OFFLINE + code], cwd=ROOT, capture_output=True, text=True)


def test_the_guard_works():
    found = offline("import urllib.request; urllib.request.urlopen('https://example.org')")
    assert found.returncode and "socket.getaddrinfo" in found.stderr


def test_importing_and_running_opens_no_connection(runs):
    found = offline(f"""
import importlib, os, pathlib
for path in pathlib.Path("xyield").glob("[a-z]*.py"):
    importlib.import_module(f"xyield.{{path.stem}}")
from xyield.measurements import measurements
from xyield.methods import changed
from xyield.report import write_table
from xyield.runs import ALLOY_SETTINGS, Alloys, paper_methods, run
from xyield.splits import FewShot
from xyield.statistics import summarise
world = Alloys(measurements(), FewShot(0.05), n_simulated=200)
for chain in paper_methods(changed(ALLOY_SETTINGS, dict.fromkeys(("pretrain", "transfer"), {{"epochs": 1}}))).values():
    rows = run(chain, world, [0, 1])
write_table(summarise(rows, ["task"]), pathlib.Path({str(runs)!r}, "table.csv"), "A table", "smoke", {{}})
""")
    assert found.returncode == 0, found.stderr[-2000:]
    assert (runs / "table.csv").is_file()


def test_a_download_with_another_hash_is_refused(tmp_path, monkeypatch):
    import pooch

    from xyield import measurements

    def fake_download(url, output_file, pooch_object):
        Path(output_file).write_bytes(b"something else")

    retrieve = pooch.retrieve
    monkeypatch.setattr(pooch, "retrieve", lambda url, **more: retrieve(url, **more, downloader=fake_download))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path)
    with pytest.raises(ValueError, match="hash"):
        measurements.download_source()
    assert not list(tmp_path.glob("*.csv"))


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}, node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_no_shell_no_eval_no_pickle(path):
    forbidden = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.load", "joblib.load",
                 "pd.read_pickle", "yaml.unsafe_load"}
    for function, keywords, line in calls(path):
        where = f"{path.name}:{line} {function}"
        assert function not in forbidden, where
        assert keywords.get("shell", "False") == "False", where
        assert keywords.get("allow_pickle", "False") == "False", where


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_yaml_is_read_by_safe_loaders_only(path):
    tree = ast.parse(path.read_text())
    safe = {"yaml.SafeLoader"} | {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
                                  and [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("yaml.load", "yaml.load_all"):
            loaders = [ast.unparse(value) for value in (*node.args[1:], *(k.value for k in node.keywords))]
            assert len(loaders) == 1 and set(loaders) <= safe, f"{path.name}:{node.lineno}"


def test_snakemake_shell_commands_take_numbers_only():
    text = (ROOT / "Snakefile").read_text()
    fields = re.findall(r"shell:\s*f?\"([^\"]*)\"", text)
    assert len(fields) == text.count("shell:")
    for command in fields:
        assert set(re.findall(r"\{\{(.*?)\}\}", command)) <= {"params.number"}
        assert set(re.findall(r"(?<!\{)\{(\w+)\}(?!\})", command)) <= {"XYIELD", "RELEASE", "SHARDS"}
    assert "number=lambda wildcards: int(wildcards.i)" in text
    assert 'SHARDS = int(config.get("shards", 32))' in text


# the lock file


def locked():
    "Name -> [(version, marker, hashes)] of requirements.lock."
    found = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip()):
        requirement = Requirement(entry.split("--hash")[0].replace("\\", " ").strip())
        hashes = re.findall(r"--hash=(\S+)", entry)
        found.setdefault(canonicalize_name(requirement.name), []).append((requirement, hashes))
    return found


def declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(r) for r in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_agrees_with_the_declared_requirements(python):
    lock = locked()
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
            "platform_system": "Linux", "platform_machine": "x86_64", "platform_python_implementation": "CPython",
            "implementation_name": "cpython", "os_name": "posix", "extra": ""}
    for wanted in declared():
        versions = [str(r.specifier).removeprefix("==") for r, _ in lock.get(canonicalize_name(wanted.name), [])
                    if r.marker is None or r.marker.evaluate(here)]
        assert len(versions) == 1, f"{wanted.name} on Python {python}: run make lock"
        assert wanted.specifier.contains(versions[0], prereleases=True), f"{wanted} but {versions[0]}: run make lock"


def test_everything_locked_is_pinned_and_has_hashes_and_nothing_else_is_in_the_file():
    for entries in locked().values():
        for requirement, hashes in entries:
            assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), requirement
            assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in hashes), requirement
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text and "@ " not in text


def test_make_and_ci_install_from_the_lock():
    makefile = (ROOT / "Makefile").read_text()
    installs = [line.split("pip install", 1)[1] for line in makefile.splitlines() if "pip install" in line]
    assert any("--require-hashes --requirement requirements.lock" in line for line in installs)
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line or "--quiet uv;" in line, line
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert {"3.11", "3.13"} <= set(map(str, matrix))
    assert importlib.metadata.version("xyield")


def test_data_are_what_the_checksum_says():
    from xyield.measurements import MPEA_SHA256, source_path
    assert hashlib.sha256(source_path().read_bytes()).hexdigest() == MPEA_SHA256
