# The order of the work: a rule is a notebook and its parameters. `make reproduce` and `make search` run this; so do
#     snakemake --cores 2 --config profile=smoke
#     snakemake --cores 2 --config profile=smoke -- search
# What the rules are stands in the notebooks (chapter 37): what each leaves, after which others, in which variants.
import os
import platform
import sys
from pathlib import Path

from xyield.experiments import execute, lead, read_profile, read_tasks
from xyield.report import set_aside_changed
from xyield.store import closure

HERE = platform.node()
if os.environ.setdefault("XYIELD_HOST", HERE) != HERE:  # a job on another node of a cluster follows itself
    os.environ |= {"XYIELD_HOST": HERE, "XYIELD_MASTER": str(os.getpid())}
LOCK = lead(Path(".snakemake/reproduce.lock"))  # a second reproduction of this checkout waits here
PROFILE = config.get("profile", "laptop")
RUNS = os.environ.setdefault("XYIELD_RUNS", str(Path("runs").resolve()))
NOTEBOOKS = Path("nbs/experiments")
try:
    SETTINGS = read_profile(Path(f"profiles/{PROFILE}.yml"), NOTEBOOKS)
    TASKS = read_tasks(NOTEBOOKS)
except ValueError as error:
    raise WorkflowError(str(error))
if LOCK and not {"-n", "--dry-run", "--dryrun"} & set(sys.argv):
    for line in set_aside_changed(Path(SETTINGS["output"])):  # it is not up to date; here nobody sees a warning
        print(line, file=sys.stderr)


def modules(names):
    return [f"xyield/{name}.py" for name in names]


def left_by(task):
    "The artefacts of a task, in the profile's folder."
    return [str(Path(SETTINGS["output"], file)) for file in task.leaves]


def executed(name):
    return f"{RUNS}/{PROFILE}/notebooks/{name}.ipynb"


def made_by(part):
    "What a part leaves, and its notebooks as they were run: a clone has the tables but has not run the notebooks."
    tasks = [task for task in TASKS.values() if task.part == part]
    return [left_by(task) for task in tasks] + [executed(task.name) for task in tasks]


rule all:
    input:
        made_by("reproduce"),
    default_target: True


rule search:
    input:
        made_by("search"),


for task in TASKS.values():

    rule:
        name:
            task.name
        input:
            modules(task.modules),
            task.needs,
            [executed(name) for name in task.after],
            notebook=task.notebook,
        output:
            update(left_by(task)),  # an interrupted run leaves the previous version in place
            executed=executed(task.name),
        params:
            notebook=task.given(SETTINGS, PROFILE),
        priority: task.left
        run:
            execute(input.notebook, output.executed, params.notebook)


# The data themselves, on request: `snakemake --cores 2 release`. A shard is a file, so a cluster can share them.
SHARDS = int(config.get("shards", 32))
RELEASE = f"{RUNS}/{PROFILE}/release"
XYIELD = Path(sys.executable).with_name("xyield")  # of the environment that runs this, whatever is on the PATH


rule shard:
    input:
        modules(closure("release")),
    output:
        f"{RELEASE}/design_space/part-{{i}}-of-{SHARDS:04d}.parquet",
    params:
        number=lambda wildcards: int(wildcards.i),
    shell:
        f"{XYIELD} release --out {RELEASE} --shards {SHARDS} --only {{params.number}}"


rule release:
    input:
        expand(rules.shard.output, i=[f"{i:04d}" for i in range(SHARDS)]),
    output:
        f"{RELEASE}/croissant.json",
        f"{RELEASE}/datapackage.json",
        f"{RELEASE}/DATASHEET.md",
        f"{RELEASE}/README.md",
        f"{RELEASE}/SHA256SUMS",
        f"{RELEASE}/measured.parquet",
        f"{RELEASE}/simulated.parquet",
        f"{RELEASE}/xyield-splits-1.0.csv",
        f"{RELEASE}/xyield-splits-1.0.parquet",
    shell:
        f"{XYIELD} release --out {RELEASE} --describe"
