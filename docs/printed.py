"""All chapters on one page, and as a PDF where there is a Chromium: `make print`, from what `make docs` prepared."""

import shutil
import subprocess
import sys

from notebooks import library_notebooks
from site_paths import BUILD, DOCS, SOURCE, page_of
from sphinx.cmd.build import build_main

PRINTED = BUILD / "print"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def write_page() -> bool:
    "One page, `_docs/print/print.html`; true if Sphinx could build it."
    chapters = "\n".join(page_of(path) for path in library_notebooks())
    page = SOURCE / "print.md"
    page.write_text(f"# xyield: the chapters\n\n```{{toctree}}\n:maxdepth: 1\n\n{chapters}\n```\n")
    try:
        return not build_main(["-q", "-b", "singlehtml", "-c", str(DOCS), "-D", "root_doc=print",
                               "-D", "suppress_warnings=toc.not_included",
                               "-d", str(BUILD / "doctrees_print"), str(SOURCE), str(PRINTED)])
    finally:
        page.unlink()


def write_pdf():
    "The page as `_docs/print/xyield.pdf`, once its mathematics is set."
    subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=200000",
                    "--no-pdf-header-footer", f"--print-to-pdf={PRINTED / 'xyield.pdf'}",
                    (PRINTED / "print.html").as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    if not SOURCE.is_dir():
        sys.exit("there are no pages yet: run `make docs` first")
    whole = write_page()
    if CHROMIUM:
        write_pdf()
    print(*(f"_docs/print/{name}" for name in ("print.html", "xyield.pdf") if (PRINTED / name).exists()))
    sys.exit(not whole)
