"""Sphinx's settings. The pages are prepared by build.py; `make docs` runs both."""

import html
import sys
from pathlib import Path

from docutils import nodes

sys.path.insert(0, str(Path(__file__).parent))
from reference import document_parameters, skip_nothing_public
from site_paths import EXTRA, MATHJAX, REPOSITORY, SETTINGS

project = "xyield"
author = SETTINGS["author"]
copyright = SETTINGS["copyright"]
release = SETTINGS["version"]
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax", "sphinx_copybutton",
              "sphinx_design"]
root_doc = "index"
nb_execution_mode = "off"  # the notebooks are committed as they were run
nb_render_markdown_format = "myst"
myst_enable_extensions = ["amsmath", "colon_fence", "attrs_block", "deflist", "dollarmath"]
myst_heading_anchors = 3
nitpicky = False
autodoc_typehints = "none"  # types stand beside the parameters, see reference.py
autodoc_member_order = "bysource"
add_module_names = False
python_use_unqualified_type_names = True
copybutton_exclude = ".linenos, .gp, .go"

# MathJax in one file, from the site's own folder: no network, and it works when opened from a folder
mathjax_path = "mathjax/tex-svg-full.js"
mathjax3_config = {"svg": {"fontCache": "local"}, "options": {"enableMenu": False}}

html_theme = "sphinx_book_theme"
html_title = "xyield"
html_static_path = [str(Path(__file__).parent / "static"), str(MATHJAX)]
html_extra_path = [str(EXTRA)]
html_css_files = ["xyield.css"]
html_js_files = ["xyield.js"]
html_favicon = str(Path(__file__).parent / "static" / "favicon.svg")
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": SETTINGS["branch"],
    "use_repository_button": bool(REPOSITORY),
    "use_download_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # one search field is enough
    "toc_title": "On this page",
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}


def describe(app, pagename, templatename, context, doctree):
    "Sphinx's hook: a page's purpose, or else its first paragraph, as its description for search engines."
    found = doctree and [*doctree.findall(nodes.block_quote), *doctree.findall(nodes.paragraph)]
    words = " ".join(found[0].astext().split()) if found else f"{context.get('title', project)}, a page of {project}"
    words = html.escape(words if len(words) <= 300 else words[:297] + "…", quote=True)
    context["metatags"] = context.get("metatags", "") + f'\n    <meta name="description" content="{words}" />'


def name_corners(app, doctree, docname):
    "Sphinx's hook: no heading of a table is empty for those who hear it."
    for head in doctree.findall(nodes.thead):
        for entry in head.findall(nodes.entry):
            if not entry.astext().strip():
                entry += nodes.paragraph("", "", nodes.inline(text="row", classes=["visually-hidden"]))


def setup(app):
    app.connect("html-page-context", describe)
    app.connect("doctree-resolved", name_corners)
    app.connect("autodoc-process-docstring", document_parameters)
    app.connect("autodoc-skip-member", skip_nothing_public)
