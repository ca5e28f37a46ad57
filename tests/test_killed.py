"""kill -9, then again: nothing half written, nothing lost, nothing done twice, and the same tables to the last byte."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from xyield.experiments import MASTER

BIN = Path(sys.executable).parent
KILLED = Path(__file__).with_name("killed.py")


def environment(runs):
    return os.environ | {"XYIELD_RUNS": str(runs), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def small_reproduction(folder, *seed):
    command = [sys.executable, KILLED, folder / "tables" / "small.csv", *map(str, seed)]
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def tables(folder):
    "All tables as text: but for measured times, which are others each time, and pages that show some."
    found = {}
    for path in sorted(folder.rglob("tables/*.csv")):
        table = pd.read_csv(path, dtype=str)
        found[path.name] = (timeless := table.filter(regex="^(?!seconds)")).to_csv()
        if list(timeless) == list(table):
            found[path.stem] = path.with_suffix(".md").read_text()
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    small_reproduction(folder)
    return folder


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 12))])
def test_killed_at_random_moments(undisturbed, tmp_path, seed):
    kills = small_reproduction(tmp_path, seed)
    assert len(kills) >= 3
    assert tables(tmp_path) == tables(undisturbed)
    names = [sorted(p.relative_to(f).as_posix() for p in f.rglob("*") if p.is_file()) for f in (tmp_path, undisturbed)]
    assert names[0] == names[1]  # no leftovers, either


def test_undisturbed_again_is_the_same_and_does_nothing(undisturbed):
    def results():
        return {p: p.stat().st_mtime_ns for p in (undisturbed / "networks").iterdir()}

    before, first = results(), tables(undisturbed)
    small_reproduction(undisturbed)
    assert (results(), tables(undisturbed)) == (before, first)


# the whole chain: make's command, Snakemake, the fork server, notebooks


@pytest.fixture
def reproduction():
    "A function that starts `make reproduce`'s command; whatever it started is gone after the test."
    started = []

    def start(*arguments):
        started.append(_reproduction(*arguments))
        return started[-1]

    yield start
    for process in started:
        for pid in (process.pid, *descendants(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def _reproduction(root, runs, *more):
    command = [BIN / "snakemake", "--cores", "2", "--config", "profile=smoke", *more]
    return subprocess.Popen(command, cwd=root, env=environment(runs), stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


def parents():
    "All living processes, and the parent of each."
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    return parents


def descendants(pid):
    "All living processes below `pid`."
    found, above = {pid}, parents()
    while more := {p for p, parent in above.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def notebooks(pid):
    "The processes below `pid` that run a notebook: the children of its fork server."
    below, above = descendants(pid), parents()
    servers = {p for p in below if "forkserver" in command_line(p)}
    return [p for p in servers if above.get(p) in servers]


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def finished(process):
    _, words = process.communicate(timeout=900)
    return process.returncode, words


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


@needs_proc
def test_nothing_outlives_a_killed_reproduction_and_the_next_one_finishes(root, tmp_path, reproduction):
    first = reproduction(root, tmp_path, "--until", "taba13_datasets")
    wait_for(lambda: notebooks(first.pid), 100)
    children = descendants(first.pid)
    for pid in (first.pid, *children):  # they take their time
        os.kill(pid, signal.SIGSTOP)
    second = reproduction(root, tmp_path, "--until", "taba13_datasets")
    words = ""
    while "waiting for it" not in words:
        words += (line := second.stderr.readline())
        assert line, words
    assert not descendants(second.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    for pid in children:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not any(alive(p) for p in children), 15)
    code, words = finished(second)
    assert code == 0, words[-2000:]
    assert {p.name for p in (tmp_path / "smoke" / "tables").iterdir()} == {
        f"{name}.{ending}" for name in ("taba13_datasets", "dataset_counts") for ending in ("csv", "md", "json")}
    assert MASTER not in os.environ


SLOW_ORDER = """
import sys, time
from pathlib import Path
from xyield import experiments

class Notebook:
    def __reduce__(self):  # it is long on its way to the process that is to run it
        time.sleep(600)

master = experiments.lead(Path(sys.argv[1]))
with experiments._process() as process:
    process.submit(print, Notebook())
"""


@needs_proc
def test_no_process_outlives_a_master_that_was_killed_before_it_gave_the_order(tmp_path):
    master = subprocess.Popen([sys.executable, "-c", SLOW_ORDER, tmp_path / "lock"], env=environment(tmp_path))
    wait_for(lambda: notebooks(master.pid), 100)
    below = descendants(master.pid)
    master.kill()
    master.wait()
    wait_for(lambda: not any(alive(p) for p in below), 15)


@pytest.mark.slow
@needs_proc
def test_whole_chain_killed_at_random_moments(root, tmp_path, reproduction):
    rng = random.Random(time.time_ns())
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    code, words = finished(reproduction(root, undisturbed))
    assert code == 0, words[-2000:]
    seen = {}
    for kind in rng.sample(["parent", "notebook", "group"] * 7, 21):
        process = reproduction(root, disturbed)
        time.sleep(rng.uniform(3, 40))
        below = descendants(process.pid)
        if kind == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif kind == "notebook":
            for pid in notebooks(process.pid)[:1]:
                os.kill(pid, signal.SIGKILL)
            process.kill()
        else:
            process.kill()
        process.wait()
        wait_for(lambda pids=below: not any(alive(p) for p in pids), 20)
        now = {p: p.stat().st_mtime_ns for p in (disturbed / "networks").glob("*.safetensors")}
        assert seen.items() <= now.items(), "a finished run was repeated or lost"
        seen = now
    code, words = finished(reproduction(root, disturbed))
    assert code == 0, words[-2000:]
    assert tables(disturbed) == tables(undisturbed)
    assert not list(disturbed.rglob("*.part")) and not list(disturbed.rglob("*.damaged*"))
