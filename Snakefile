# The order of the work: a rule is a notebook and its parameters. `make reproduce` runs this; so does
#     snakemake --cores 2 --config profile=smoke
# Profiles are in profiles/: an output folder and, for each notebook, the parameters that differ from its defaults.
import os
import sys
from pathlib import Path

from xyield.experiments import lead, read_profile

LOCK = lead(Path(".snakemake/reproduce.lock"))  # a second reproduction of this checkout waits here
PROFILE = config.get("profile", "laptop")
RUNS = os.environ.setdefault("XYIELD_RUNS", str(Path("runs").resolve()))
try:
    SETTINGS = read_profile(Path(f"profiles/{PROFILE}.yml"), Path("nbs/experiments"))
except ValueError as error:
    raise WorkflowError(str(error))
OUTPUT = SETTINGS["output"].format(runs=RUNS)
EXECUTED = f"{RUNS}/{PROFILE}/notebooks"
TASKS = ["regression", "classification"]
MOMENTUM = {"few_shot": 0.0, "momentum": 0.9}  # the two variants of Table 2


def modules(*names):
    "The library modules that an experiment rests on: when one changes, the notebook runs again."
    return [f"xyield/{name}.py" for name in names]


def table(name):
    "What a table's notebook leaves. `update`: an interrupted run leaves the previous version in place."
    return [update(str(Path(OUTPUT, "tables", f"{name}.{kind}"))) for kind in ("csv", "md", "json")]


def figure(name):
    return [update(str(Path(OUTPUT, "figures", f"{name}.{kind}"))) for kind in ("csv", "png", "json")]


def parameters(notebook, **more):
    return SETTINGS.get(notebook, {}) | more


ALLOYS = modules("alloys", "measurements", "simulator", "pseudo_images", "networks", "training")
METHODS = modules("masks", "methods", "bilevel", "runs", "paper")
PEERS = modules("peers", "softening")
IMAGES = modules("images", "testbed", "image_training", "image_runs", "masks", "methods", "bilevel", "paper")
IMAGE_PAIRS = {  # a table of Hand-Tune's grid -> its pair of domains
    "taba05_images": {"source": "ImageNet", "target": "CUB-200"},
    "taba06_images": {"source": "ImageNet-C", "target": "CUB-200"},
    "taba07_images": {"source": "ImageNet", "target": "CUB-200 (10-shot)"},
    "taba08_images": {"source": "ImageNet-C", "target": "CUB-200 (10-shot)"},
}
PRETRAINED = expand(f"{EXECUTED}/pretrain-{{task}}.ipynb", task=TASKS)

EXPERIMENTS = {  # notebook -> what it rests on, what it leaves
    "tab03_cross_validation": (ALLOYS + METHODS + PRETRAINED, table("tab03_cross_validation")),
    "tab04_alloys": (ALLOYS + METHODS + PRETRAINED, table("tab04_alloys")),
    "taba12_ensembles": (
        ALLOYS + METHODS + modules("statistics") + PRETRAINED,
        table("taba12_ensembles") + table("ensemble_coverage") + figure("ensemble_calibration"),
    ),
    "handtune_grid": (ALLOYS + METHODS + PRETRAINED, table("handtune_control") + figure("handtune_grid")),
    "birpt_search": (ALLOYS + METHODS + PRETRAINED, table("birpt_search")),
    "ablations": (
        ALLOYS + METHODS + PRETRAINED,
        table("taba09_masks") + table("taba10_gamma") + table("taba11_mask_rate"),
    ),
    # these two show Table 2's runs
    "fig03_temperature": (ALLOYS + METHODS + [f"{EXECUTED}/tab02_few_shot.ipynb"], figure("fig03_temperature")),
    "figa04_layers": (ALLOYS + METHODS + [f"{EXECUTED}/tab02_few_shot.ipynb"], figure("figa04_layers")),
    # the image experiments; Table 1 and Figure A4 show the runs of Tables A5 to A8
    "tab01_images": (IMAGES + expand(f"{EXECUTED}/{{name}}.ipynb", name=IMAGE_PAIRS), table("tab01_images")),
    "figa04_images": (IMAGES + expand(f"{EXECUTED}/{{name}}.ipynb", name=IMAGE_PAIRS), figure("figa04_images")),
    "taba09_images": (IMAGES, table("taba09_images") + table("taba10_images") + table("taba11_images")),
    "images_search": (IMAGES, table("images_search")),
    "image_hours": (IMAGES + ["profiles/paper.yml"], table("image_hours")),
    "model_width": (ALLOYS + METHODS, table("model_width")),
    "figa05_representation": (modules("alloys", "pseudo_images", "paper"), figure("figa05_representation")),
    "fig02_distributions": (modules("alloys", "measurements", "simulator", "paper"), figure("fig02_distributions")),
    "taba13_datasets": (
        modules("alloys", "measurements", "simulator", "survey", "paper"),
        table("taba13_datasets"),
    ),
    # what the site's page to play with needs
    "playground": (
        ALLOYS + modules("paper") + PRETRAINED,
        [*figure("playground"), update(str(Path(OUTPUT, "figures", "playground.safetensors")))],
    ),
    "screening": (
        ALLOYS + modules("kernel", "survey", "paper") + PRETRAINED,
        table("screening") + figure("screening"),
    ),
    # these show Table 2's and Table 3's runs of the networks beside their own
    "tabe1_peers": (
        ALLOYS + METHODS + PEERS
        + [f"{EXECUTED}/tab02_few_shot.ipynb", f"{EXECUTED}/tab03_cross_validation.ipynb"],
        table("tabe1_peers"),
    ),
    "tabe3_ablation": (ALLOYS + METHODS + PEERS + [f"{EXECUTED}/tab02_few_shot.ipynb"], table("tabe3_ablation")),
    # after Table E1, which has some of its rows
    "fige1_learning_curves": (
        ALLOYS + METHODS + PEERS + [f"{EXECUTED}/tabe1_peers.ipynb"],
        figure("fige1_learning_curves"),
    ),
    "tabe2_hard_splits": (ALLOYS + METHODS + PEERS + modules("splits"), table("tabe2_hard_splits")),
    "estimator": (ALLOYS + PEERS + modules("estimator"), []),
}


rule all:
    input:
        table("tab02_few_shot"),
        table("tab02_momentum"),
        [[table(name), figure(name)] for name in IMAGE_PAIRS],
        [artefacts for _, artefacts in EXPERIMENTS.values()],
        # a clone has the tables but has not run the notebooks
        expand(f"{EXECUTED}/{{name}}.ipynb", name=["tab02_few_shot", "tab02_momentum", *IMAGE_PAIRS, *EXPERIMENTS]),
    default_target: True


rule pretrain:
    input:
        ALLOYS + modules("masks", "methods"),
        notebook="nbs/experiments/pretrain.ipynb",
    output:
        executed=f"{EXECUTED}/pretrain-{{task}}.ipynb",
    params:
        notebook=lambda wildcards: parameters("pretrain", task=wildcards.task),
    priority: 2
    script:
        "execute.py"


rule tab02:
    input:
        ALLOYS + METHODS + PRETRAINED,
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
            momentum=MOMENTUM[wildcards.variant],
        ),
    priority: 1
    script:
        "execute.py"


rule image_grid:
    input:
        IMAGES,
        notebook="nbs/experiments/taba05_images.ipynb",
    output:
        table("taba0{number}_images"),
        figure("taba0{number}_images"),
        executed=f"{EXECUTED}/taba0{{number}}_images.ipynb",
    wildcard_constraints:
        number="[5-8]",
    params:
        notebook=lambda wildcards: parameters(
            "taba05_images",
            profile=PROFILE,
            output=OUTPUT,
            name=f"taba0{wildcards.number}_images",
            **IMAGE_PAIRS[f"taba0{wildcards.number}_images"],
        ),
    priority: 1
    script:
        "execute.py"


for experiment, (needed, left) in EXPERIMENTS.items():

    rule:
        name:
            experiment
        input:
            needed,
            notebook=f"nbs/experiments/{experiment}.ipynb",
        output:
            left,
            executed=f"{EXECUTED}/{experiment}.ipynb",
        params:
            notebook=parameters(experiment, profile=PROFILE, output=OUTPUT),
        script:
            "execute.py"


# The data themselves, on request: `snakemake --cores 2 release`. A shard is a file, so a cluster can share them.
SHARDS = int(config.get("shards", 32))
RELEASE = f"{RUNS}/{PROFILE}/release"
XYIELD = Path(sys.executable).with_name("xyield")  # of the environment that runs this, whatever is on the PATH


rule shard:
    input:
        modules("alloys", "simulator", "kernel", "survey", "release"),
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
        f"{RELEASE}/DATASHEET.md",
        f"{RELEASE}/SHA256SUMS",
        f"{RELEASE}/measured.parquet",
        f"{RELEASE}/simulated.parquet",
    shell:
        f"{XYIELD} release --out {RELEASE} --describe"
