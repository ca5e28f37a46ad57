# The order of the work: a rule is a notebook and its parameters. `make reproduce` runs this; so does
#     snakemake --cores 2 --config profile=smoke
# Profiles are in profiles/: an output folder and, for each notebook, the parameters that differ from its defaults.
import os
from pathlib import Path

import yaml

PROFILE = config.get("profile", "laptop")
RUNS = os.environ.setdefault("XYIELD_RUNS", str(Path("runs").resolve()))
if not Path(f"profiles/{PROFILE}.yml").is_file():
    known = sorted(p.stem for p in Path("profiles").glob("*.yml"))
    raise WorkflowError(f"profile is {PROFILE!r}; expected one of {', '.join(known)}")
SETTINGS = yaml.safe_load(Path(f"profiles/{PROFILE}.yml").read_text())
OUTPUT = SETTINGS["output"].format(runs=RUNS)
EXECUTED = f"{RUNS}/{PROFILE}/notebooks"
TASKS = ["regression", "classification"]
MOMENTUM = {"few_shot": 0.0, "momentum": 0.9}  # the two variants of Table 2


def modules(*names):
    "The library modules that an experiment rests on: when one changes, the notebook runs again."
    return [f"xyield/{name}.py" for name in names]


def table(name):
    "What a table's notebook leaves. `update`: an interrupted run leaves the previous version in place."
    return [update(f"{OUTPUT}/tables/{name}.{kind}") for kind in ("csv", "md", "json")]


def figure(name):
    return [update(f"{OUTPUT}/figures/{name}.{kind}") for kind in ("csv", "png", "json")]


def parameters(notebook, **more):
    return SETTINGS.get(notebook, {}) | more


ALLOYS = modules("alloys", "measurements", "simulator", "featurization", "models", "training")


rule all:
    input:
        table("tab02_few_shot"),
        table("tab02_momentum"),
        table("model_width"),
        figure("figa05_representation"),
        figure("fig02_distributions"),
        table("taba13_datasets"),
        table("screening"),
        figure("screening"),
    default_target: True


rule pretrain:
    input:
        ALLOYS,
        notebook="nbs/experiments/pretrain.ipynb",
    output:
        executed=f"{EXECUTED}/pretrain-{{task}}.ipynb",
    params:
        notebook=lambda wildcards: parameters("pretrain", task=wildcards.task),
    priority: 1
    script:
        "execute.py"


rule tab02:
    input:
        ALLOYS,
        modules("protocols", "paper"),
        expand(f"{EXECUTED}/pretrain-{{task}}.ipynb", task=TASKS),
        notebook="nbs/experiments/tab02_few_shot.ipynb",
    output:
        table("tab02_{variant}"),
        executed=f"{EXECUTED}/tab02_{{variant}}.ipynb",
    params:
        notebook=lambda wildcards: parameters(
            "tab02_few_shot",
            profile=PROFILE,
            output=OUTPUT,
            name=f"tab02_{wildcards.variant}",
            tasks=TASKS,
            momentum=MOMENTUM[wildcards.variant],
        ),
    script:
        "execute.py"


rule model_width:
    input:
        ALLOYS,
        modules("protocols", "paper"),
        notebook="nbs/experiments/model_width.ipynb",
    output:
        table("model_width"),
        executed=f"{EXECUTED}/model_width.ipynb",
    params:
        notebook=parameters("model_width", profile=PROFILE, output=OUTPUT),
    script:
        "execute.py"


rule figa05_representation:
    input:
        modules("alloys", "featurization", "paper"),
        notebook="nbs/experiments/figa05_representation.ipynb",
    output:
        figure("figa05_representation"),
        executed=f"{EXECUTED}/figa05_representation.ipynb",
    params:
        notebook=parameters("figa05_representation", profile=PROFILE, output=OUTPUT),
    script:
        "execute.py"


rule fig02_distributions:
    input:
        modules("alloys", "measurements", "simulator", "paper"),
        notebook="nbs/experiments/fig02_distributions.ipynb",
    output:
        figure("fig02_distributions"),
        executed=f"{EXECUTED}/fig02_distributions.ipynb",
    params:
        notebook=parameters("fig02_distributions", profile=PROFILE, output=OUTPUT),
    script:
        "execute.py"


rule taba13_datasets:
    input:
        modules("alloys", "measurements", "simulator", "design_space", "paper"),
        notebook="nbs/experiments/taba13_datasets.ipynb",
    output:
        table("taba13_datasets"),
        executed=f"{EXECUTED}/taba13_datasets.ipynb",
    params:
        notebook=parameters("taba13_datasets", profile=PROFILE, output=OUTPUT),
    script:
        "execute.py"


rule screening:
    input:
        ALLOYS,
        modules("kernel", "design_space", "paper"),
        f"{EXECUTED}/pretrain-regression.ipynb",
        notebook="nbs/experiments/screening.ipynb",
    output:
        table("screening"),
        figure("screening"),
        executed=f"{EXECUTED}/screening.ipynb",
    params:
        notebook=parameters("screening", profile=PROFILE, output=OUTPUT),
    script:
        "execute.py"


# The data themselves, on request: `snakemake --cores 2 release`. A shard is a file, so a cluster can share them.
SHARDS = int(config.get("shards", 32))
RELEASE = f"{RUNS}/{PROFILE}/release"


rule shard:
    input:
        modules("alloys", "simulator", "kernel", "design_space", "release"),
    output:
        f"{RELEASE}/design_space/part-{{i}}-of-{SHARDS:04d}.parquet",
    params:
        number=lambda wildcards: int(wildcards.i),
    shell:
        f"xyield release --out {RELEASE} --shards {SHARDS} --only {{params.number}}"


rule release:
    input:
        expand(rules.shard.output, i=[f"{i:04d}" for i in range(SHARDS)]),
    output:
        f"{RELEASE}/croissant.json",
        f"{RELEASE}/DATASHEET.md",
        f"{RELEASE}/SHA256SUMS",
        f"{RELEASE}/measured.parquet",
        f"{RELEASE}/simulated.parquet",
    shell:
        f"xyield release --out {RELEASE} --describe"
