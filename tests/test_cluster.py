"""On a cluster: profiles that Snakemake takes, and jobs that live on another machine than the one who ordered them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
HERE = ("--cores", "2")
SLURM = ("--workflow-profile", "profiles/slurm", "--slurm-no-account", "--slurm-status-command", "squeue",
         "--slurm-init-seconds-before-status-checks", "5")  # a SLURM without a database of accounts


def snakemake(root, runs, *words, **environment):
    given = os.environ | {"XYIELD_RUNS": str(runs), "PATH": f"{SNAKEMAKE.parent}{os.pathsep}{os.environ['PATH']}"}
    given = {name: value for name, value in given.items() if name not in ("XYIELD_HOST", "XYIELD_MASTER")} | environment
    return subprocess.run([SNAKEMAKE, *words], cwd=root, env=given, capture_output=True, text=True)


def test_a_job_on_another_node_follows_itself(root, tmp_path):
    "SLURM hands the environment of the login node to its jobs; the process that it names is not on their machine."
    done = snakemake(root, tmp_path, "--cores", "1", "--config", "profile=smoke", "--", "taba13_datasets",
                     XYIELD_HOST="login.elsewhere", XYIELD_MASTER="4194305")  # above the largest process id of Linux
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "smoke" / "tables" / "taba13_datasets.csv").is_file()


def test_the_profile_for_slurm_keeps_what_the_default_one_says(root):
    profiles = root / "profiles"
    default, slurm = (yaml.safe_load((profiles / n / "config.yaml").read_text()) for n in ("default", "slurm"))
    for key in ("nolock", "rerun-incomplete", "keep-going"):
        assert slurm[key] == default[key]


def test_slurm_plans_all_notebooks(root, tmp_path):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    done = snakemake(root, tmp_path, "--workflow-profile", "profiles/slurm", "--config", "profile=smoke", "--dry-run")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tab02_few_shot" in done.stdout + done.stderr


@pytest.fixture
def slurm():
    "A SLURM of one node, this machine, for as long as the test takes."
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip("only root can set up a SLURM, and only with Debian's packages")
    install = "apt-get update -qq && apt-get install -qq -y --no-install-recommends slurm-wlm munge"
    if not shutil.which("slurmctld") and subprocess.run(install, shell=True, capture_output=True).returncode:
        pytest.skip("slurm-wlm and munge could not be installed")
    if Path("/etc/slurm/slurm.conf").exists():
        pytest.skip("this machine has a SLURM of its own")
    script = Path(__file__).with_name("slurm.sh")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)  # munged wants its socket where everybody may look
        try:
            subprocess.run([script, "start", f"{place}/slurm"], check=True)
            yield
        finally:
            subprocess.run([script, "stop", f"{place}/slurm"], check=True)


@pytest.mark.slow
def test_slurm_makes_the_tables_of_a_local_run(root, tmp_path, slurm):
    targets, made = ("tab02_few_shot", "fig02_distributions"), {}
    for name, how in (("slurm", SLURM), ("here", HERE)):
        done = snakemake(root, tmp_path / name, *how, "--config", "profile=smoke", "--", *targets)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("submitted with SLURM jobid") == (4 if name == "slurm" else 0)
        left = [p for p in (tmp_path / name / "smoke").rglob("*") if p.suffix in (".csv", ".md", ".png")]
        made[name] = {p.name: p.read_bytes() for p in left}
    assert {f"{targets[0]}.csv", f"{targets[1]}.png"} <= made["here"].keys()
    assert made["slurm"] == made["here"]


def test_the_job_for_kubernetes_calls_a_target_of_make(root):
    pod = yaml.safe_load((root / "profiles" / "kubernetes" / "job.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][:2] == ["make", "reproduce"]
    names = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == names
    assert container["workingDir"] in {mount["mountPath"] for mount in container["volumeMounts"]}
