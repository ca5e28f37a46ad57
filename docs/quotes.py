"""Write into every notebook and page the verdicts and numbers that its links to claims quote: `make quotes`.

Read what it changes: a sentence around a verdict that has turned is wrong now.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def prose() -> list[Path]:
    "Everything that may quote a claim."
    return [*sorted((ROOT / "nbs").rglob("*.ipynb")), *sorted((ROOT / "docs" / "pages").rglob("*.md"))]


def as_quoted(path: Path, table) -> str:
    "The file's text with every quote as the ledger has it."
    from xyield.claims import requoted

    if path.suffix == ".md":
        return requoted(path.read_text(), table)
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = requoted("".join(cell["source"]), table).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main():
    from xyield.claims import Tables, ledger

    table = ledger(Tables(ROOT))
    for path in prose():
        text = as_quoted(path, table)
        if text != path.read_text():
            path.write_text(text)
            print(path.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
