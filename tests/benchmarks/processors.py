"""What another processor changed: writes `tables/processors`.

Artefacts of which an earlier commit holds a version made on another processor, by the same code with the same
parameters; so their sidecars say.

    python -m tests.benchmarks.processors [--before COMMIT] [--output FOLDER]
"""

import argparse
import io
import json
import subprocess
from pathlib import Path

import pandas as pd

from tests.benchmarks.portability import compare
from xyield.report import write_table
from xyield.store import project_root

BEFORE = "5dc105b3e7a090800ade2784c70733efb1add7f0"  # the last commit with the clean tables as an AMD EPYC made them


def at_commit(commit: str, path: str) -> str | None:
    "A committed file as text; `None` if it was not there."
    found = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=project_root(), capture_output=True, text=True)
    return found.stdout if found.returncode == 0 else None


def made_elsewhere(before: dict, now: dict) -> bool:
    "Whether two sidecars tell of the same code and parameters on two processors."
    same = all(before.get(what) == now.get(what) for what in ("code", "parameters", "profile"))
    return same and "code" in now and before["machine"]["processor"] != now["machine"]["processor"]


def rows(commit: str, tables: Path) -> pd.DataFrame:
    "One row for each table of both commits; empty if there is none."
    found = []
    for path in sorted(tables.glob("*.json")):
        now, text = json.loads(path.read_text()), at_commit(commit, f"tables/{path.name}")
        if text and made_elsewhere(before := json.loads(text), now):
            first = io.StringIO(at_commit(commit, f"tables/{path.stem}.csv"))
            found.append({"table": path.stem, "profile": now["profile"], "first": before["machine"]["processor"],
                          "second": now["machine"]["processor"], **compare(first, path.with_suffix(".csv"))})
    return pd.DataFrame(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=BEFORE)
    parser.add_argument("--output", default="tables")
    chosen = parser.parse_args()
    table = rows(chosen.before, project_root() / "tables")
    if table.empty:
        raise SystemExit(f"no table of commit {chosen.before} was made on another processor by the code of now")
    shown = table[["table", "first", "second"]].assign(**{
        "to the digit": (table["same"] / table["cells"]).map("{:.0%}".format),
        "means within the first's interval": [f"{row.within} of {row.means}" for row in table.itertuples()]})
    notes = (f"The first is that of commit {chosen.before[:7]}. Same code and same parameters, say the sidecars. What "
             "agrees to the digit are mostly names and counts.")
    write_table(table, Path(chosen.output) / "processors.csv", "What another processor changed", "laptop",
                {"before": chosen.before}, shown, notes)


if __name__ == "__main__":
    main()
