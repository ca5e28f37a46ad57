"""Write into every notebook and page the verdicts and numbers that its links to claims quote: `make quotes`.

Read what it changes: a sentence around a verdict that has turned is wrong now.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main():
    from xyield.claims import Tables, ledger
    from xyield.verify import as_quoted, prose

    table = ledger(Tables(ROOT))
    for path in prose(ROOT):
        text = as_quoted(path, table)
        if text != path.read_text():
            path.write_text(text)
            print(path.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
