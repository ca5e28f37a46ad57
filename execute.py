"""What every rule of the Snakefile does: run its notebook with its parameters."""

from xyield.experiments import execute

execute(snakemake.input.notebook, snakemake.output.executed, snakemake.params.notebook)  # noqa: F821
