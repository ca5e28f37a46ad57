"""The site: complete, self-contained, free of broken links; and, in a browser, alive."""

import configparser
import gc
import json
import re
import shutil
import subprocess
import sys
import tokenize
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote_plus, unquote, urlsplit

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
HTML = ROOT / "_docs" / "html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGES = ["index", "claims", "leaderboard", "chapters/10_bilevel", "tutorials/b_bilevel_by_hand", "api/training",
         "reproduce", "playground", "experiments/tab02_few_shot", "predict", "cluster"]
TYPES = [*PAGES[:2], "leaderboard", "chapters/index", "chapters/09_masks", "tutorials/a_predict_an_alloy",
         "experiments/tab02_few_shot", "reproduce", "api/alloys", "cluster"]  # ten types of pages
QUERIES = {"predict my alloy": "predict", "yield strength": "predict", "SLURM": "cluster", "GPU": "cluster",
           "cluster": "cluster", "Table 2": "experiments/tab02_few_shot", "cite": "cite",
           "Table E1": "experiments/tabe1_peers", "Figure 3": "experiments/fig03_temperature",
           "troubleshooting": "troubleshooting", "hypergradient": "chapters/10_bilevel"}
SLOW = 120_000  # milliseconds: MathJax takes long on a busy machine


@pytest.fixture(scope="module")
def site():
    "The site as `make docs` builds it; Sphinx turns warnings into a failure."
    built = subprocess.run([sys.executable, ROOT / "docs" / "build.py"], capture_output=True, text=True, cwd=ROOT)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-4000:]
    return HTML


@pytest.fixture(scope="module")
def trees(site):
    pages = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    gc.disable()  # millions of objects that stay: to look for some that can go takes longer than to make them
    found = {path.resolve(): BeautifulSoup(path.read_text(), "html.parser") for path in pages}
    gc.enable()
    gc.freeze()
    return found


def addresses(tree, *where):
    "The value of an attribute for each element, such as `img[src]`."
    return [e[w.split("[")[-1].rstrip("]")] for w in where for e in tree.select(w)]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


def test_every_chapter_tutorial_experiment_and_artefact_is_there(site):
    for path in [p for p in (ROOT / "nbs").rglob("*.ipynb")]:
        if path.stem == "index":
            continue
        folder = "chapters" if path.parent.name[0].isdigit() else path.parent.name
        assert (site / folder / f"{path.stem}.html").is_file(), path
    results = (site / "reproduce.html").read_text()
    for sidecar in [*ROOT.glob("tables/*.json"), *ROOT.glob("figures/*.json")]:
        anchor = f"artefact-{sidecar.parent.name}-{sidecar.stem.replace('_', '-')}"
        (page,) = re.findall(rf'href="([^"#]*)#{anchor}"', results)[:1]
        assert f'id="{anchor}"' in (site / (page or "reproduce.html")).read_text()
        assert json.loads(sidecar.read_text())["commit"][:7] in results


def test_page_of_an_experiment_shows_its_result_before_its_code(trees):
    for notebook in (ROOT / "nbs" / "experiments").glob("*.ipynb"):
        article = trees[(HTML / "experiments" / f"{notebook.stem}.html").resolve()].select_one("article")
        result, code = article.select_one("[id^=artefact]"), article.select_one("div.cell")
        assert not result or (result.sourceline, result.sourcepos) < (code.sourceline, code.sourcepos), notebook.name


def test_every_figure_is_described_and_every_page_says_what_it_is(trees):
    for path, tree in trees.items():
        for image in tree.select("article img:not(.toggler)"):
            assert len(image.get("alt", "")) > 8, (path.stem, image)
            assert not re.search(r"\.(png|svg|webp)$", image["alt"]), (path.stem, image)
        assert len(tree.select_one("meta[name=description]")["content"]) > 15, path
        assert tree.select("link[rel~=icon]"), path


def test_code_on_pages_fits_and_plumbing_is_folded(trees):
    lines, wide, shown = 0, 0, []
    for path, tree in trees.items():
        for block in tree.select("div.cell_input pre"):
            found = block.get_text().splitlines()
            lines, wide = lines + len(found), wide + sum(len(line) > 88 for line in found)
            if path.parent.name == "chapters" and not block.find_parent("details"):
                shown += [path.stem for _ in [0] if all(line.startswith("assert ") for line in found)]
    assert wide < 0.05 * lines, f"{wide} of {lines} lines are wider than 88 columns"  # comments and texts; they wrap
    assert not shown


def weight(path, tree):
    "Bytes of a page and of the files that it names; MathJax and the playground's data, which few pages load, aside."
    named = addresses(tree, "script[src]", "link[rel=stylesheet][href]", "link[rel~=icon][href]", "img[src]")
    files = {(path.parent / unquote(urlsplit(url).path)).resolve() for url in named if "mathjax" not in url}
    for sheet in [file for file in files if file.suffix == ".css"]:
        files |= {(sheet.parent / name).resolve() for name in re.findall(r'@import "([^"]+)"', sheet.read_text())}
    return path.stat().st_size + sum(file.stat().st_size for file in files if file.name != "playground-data.js")


def test_pages_are_light(trees):
    weights = {path: weight(path, tree) for path, tree in trees.items()}
    assert np.median([*weights.values()]) < 0.9e6  # with MathJax on top it is three times as much
    needed = [path.name for path, tree in trees.items() if tree.select("script[src*=searchindex]")]
    assert needed == ["search.html"]


def test_page_of_the_claims_has_each_with_its_verdict(trees):
    table = pd.read_csv(ROOT / "tables" / "claims.csv", keep_default_na=False).drop_duplicates("claim")
    page = trees[(HTML / "claims.html").resolve()]
    for claim, verdict in zip(table["claim"], table["verdict"], strict=True):
        card = page.find(id=f"claim-{claim}")
        card = card if "sd-card" in card.get("class", []) else card.find_next(class_="sd-card")
        assert card.find(class_="sd-badge").get_text() == verdict, claim
    quoted = [badge for path, tree in trees.items() for badge in tree.select("a .sd-badge, a.sd-badge")]
    assert len(quoted) > 20


def test_nothing_is_loaded_from_elsewhere(trees):
    for path, tree in trees.items():
        loaded = addresses(tree, "script[src]", "img[src]", "iframe[src]", "link[rel=stylesheet][href]")
        assert not [url for url in loaded if urlsplit(url).scheme in ("http", "https")], path


def test_no_internal_link_is_broken(trees):
    ids = {path: set(addresses(tree, "[id]", "a[name]")) for path, tree in trees.items()}
    ids |= {path: None for path in ids if path.stem == "playground"}  # what follows the # is an alloy
    broken = []
    for path, tree in trees.items():
        for url in addresses(tree, "a[href]", "link[href]", "img[src]", "script[src]"):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or url.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and ids.get(target) and anchor not in ids[target]):
                broken.append((path.stem, url))
    assert not broken, broken[:20]


def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "settings.ini")
    return parser["DEFAULT"]


def test_nothing_points_to_an_address_that_is_not_ours(site, trees):
    "While the settings name no repository, no link, command or notebook does; nothing ever leads into a build folder."
    ours = settings()["git_url"]
    foreign = re.compile(r"github\.com/xyield|xyield\.github\.io|colab\.research|mybinder\.org")
    install = re.compile(r"git\+http|git clone")
    for path, tree in trees.items():
        links = addresses(tree, "a[href]", "link[href]")
        assert not [url for url in links if "_docs/" in url], path
        assert ours or not [url for url in links if foreign.search(url)], path
        assert ours or not install.search(tree.get_text()), path
    for notebook in (site / "files").rglob("*.ipynb"):
        assert ours or not install.search(notebook.read_text()), notebook


def test_notebooks_and_package_are_downloads(site, trees):
    wheel = f"xyield-{settings()['version']}-py3-none-any.whl"
    names = zipfile.ZipFile(site / "files" / wheel).namelist()
    assert {"xyield/alloys.py", "xyield/estimator.safetensors", "xyield/claims.yml"} <= set(names)
    for notebook in (ROOT / "nbs").glob("*/*.ipynb"):
        served = site / "files" / notebook.relative_to(ROOT)
        assert len(json.loads(served.read_text())["cells"]) == len(json.loads(notebook.read_text())["cells"])
        folder = "chapters" if notebook.parent.name[0].isdigit() else notebook.parent.name
        page = trees[(site / folder / f"{notebook.stem}.html").resolve()]
        assert f"../files/{notebook.relative_to(ROOT)}" in addresses(page, "a[download][href]")
        if folder == "tutorials":
            assert "git+" not in served.read_text() or settings()["git_url"]
            assert f"../files/{wheel}" in addresses(page, "a[download][href]")


def test_reference_shows_types_shapes_and_units(site):
    page = BeautifulSoup((site / "api" / "simulator.html").read_text(), "html.parser")
    function = page.find(id="xyield.simulator.yield_strength").parent.get_text()
    assert "[n, 11] fractions or atomic percent" in function
    assert "GPa; [n], or [m, n]" in function
    assert "1/s" in function


def test_reference_has_examples_and_sources_within_the_site_and_nobody_else_s_markup(site, trees):
    pages = {path: tree for path, tree in trees.items()
             if path.parent.name == "api" and tree.select("dl.py.function, dl.py.class")}
    assert len(pages) > 30
    for path, tree in pages.items():
        text = tree.find("article").get_text()
        assert not re.search(r":(ref|term|class|func|meth):|metadata_routing|set_\w+_request|versionadded", text)
        assert "Example, from" in text, path
        for function in tree.select("dl.py.function"):
            source = function.select_one("dt a.reference[href*='_modules/']")
            assert source is None or (path.parent / urlsplit(source["href"]).path).is_file(), function.dt.get("id")
        assert tree.select("dt a[href*='_modules/xyield/']"), path


def test_names_in_the_notation_table_exist():
    table = (ROOT / "docs" / "pages" / "notation.md").read_text()
    known = set()
    for module in (ROOT / "xyield").glob("*.py"):
        with tokenize.open(module) as file:
            known |= {t.string for t in tokenize.generate_tokens(file.readline) if t.type == tokenize.NAME}
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| $")]
    assert len(rows) > 15
    for row in rows:
        names = re.findall(r"[A-Za-z_]\w*", " ".join(re.findall(r"`([^`\[]+)`", row[3])))
        assert names, row
        assert set(names) <= known, row


# ---------------------------------------------------------------- in a browser
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page_opens_from_a_folder_without_complaint(site, browser, name, width):
    page = browser.new_page(viewport={"width": width, "height": 850})
    complaints, elsewhere = [], []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", lambda request: request.url.startswith("http") and elsewhere.append(request.url))
    page.goto((site / f"{name}.html").as_uri())
    if name.split("/")[0] in ("chapters", "tutorials"):
        page.wait_for_selector("mjx-container svg", state="attached")
        page.wait_for_function("!document.body.innerText.includes('\\\\boldsymbol')")
        assert page.locator("mjx-container").count() > 10
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    for image in page.locator("article img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("i => i.complete && i.naturalWidth > 0"), image.get_attribute("src")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    ends = page.locator(".prev-next-area p").evaluate_all("ps => ps.map(p => p.getBoundingClientRect().right)")
    assert ends and max(ends) <= width, "a link to another page is cut off"
    if width > 1000:
        code = page.locator("article div.highlight pre").all()
        assert not [c for c in code if c.evaluate("c => c.scrollWidth > c.clientWidth + 1")], "code scrolls sideways"
    assert not complaints and not elsewhere
    page.close()


@pytest.mark.slow
def test_no_page_scrolls_sideways_on_a_phone(trees, browser):
    page, wide = browser.new_page(viewport={"width": 390, "height": 850}), []
    page.route("**/*.js*", lambda route: route.abort())  # what scripts write is looked at above
    for path in trees:
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        wide += [path.name] if page.evaluate("document.documentElement.scrollWidth") > 390 else []
    page.close()
    assert not wide


@pytest.mark.parametrize("name", ["index", "api/alloys", "chapters/09_masks"])
def test_browser_loads_no_more_than_a_page_names(trees, browser, name):
    page, loaded = browser.new_page(), set()
    page.route("**/mathjax/**", lambda route: route.abort())
    page.on("requestfinished", lambda request: loaded.add(unquote(urlsplit(request.url).path)))
    path = (HTML / f"{name}.html").resolve()
    page.goto(path.as_uri())
    assert sum(Path(file).stat().st_size for file in loaded) <= weight(path, trees[path])
    page.close()


@pytest.fixture
def playground(site, browser):
    "Opens the playground with a fragment, and fails when the page complains."
    pages, complaints = [], []

    def open_with(fragment=""):
        page = browser.new_page(accept_downloads=True)
        page.set_default_timeout(150_000)  # a busy machine is slow, not wrong
        pages.append(page)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((site / "playground.html").as_uri() + fragment)
        page.wait_for_selector("#playground[data-ready]")
        return page

    yield open_with
    for page in pages:
        page.close()
    assert not complaints


def part(page, name):
    return page.locator(f'#playground [data-part="{name}"]')


def wait_for(page, name, text):
    page.wait_for_function("([name, text]) => document.querySelector(`[data-part=${name}]`).textContent.includes(text)",
                           arg=[name, text])


def value(page, model, alloy="a"):
    return float(page.locator(f'tr[data-alloy="{alloy}"] [data-value="{model}"]').inner_text().split()[0])


def test_sliders_move_the_numbers_and_the_address(playground):
    page = playground("#NbTaTi")
    assert part(page, "formula").inner_text() == "NbTaTi"
    before = {model: value(page, model) for model in ("ours", "simulator")}
    slider = page.locator('input[data-element="W"]')
    slider.fill("25")  # percent: the others keep their ratio
    wait_for(page, "formula", "NbTaTiW")
    assert slider.get_attribute("aria-valuetext") == "25.0 atomic percent"
    ours = "document.querySelector('#playground [data-value=ours]').textContent"
    page.wait_for_function(f"before => parseFloat({ours}) != before", arg=before["ours"])
    assert value(page, "simulator") > before["simulator"]
    page.wait_for_function("location.hash === '#NbTaTiW'")
    part(page, "at").fill("300")
    wait_for(page, "at-value", "300 K")
    page.wait_for_function("location.hash.includes('at=300')")
    times = page.evaluate("performance.getEntriesByName('playground').map(e => e.duration)")
    print("ms an event:", [round(t, 1) for t in times])
    part(page, "alloys").select_option("Hf1 Nb1 Ta1 Ti1 Zr1")
    wait_for(page, "formula", "HfNbTaTiZr")
    assert page.locator("#playground circle.measured").count() > 3
    part(page, "points").locator("summary").click()
    page.locator('[data-part="points"] a[href^="https://doi.org/10."]').nth(3).wait_for()  # written once it is open


def test_our_model_says_what_it_says_in_python(playground):
    from xyield.estimator import default_estimator

    page = playground("#CrFeWZr&at=300")
    asked = pd.DataFrame({"formula": ["CrFeWZr"], "temperature": [300.0]})
    strength, std = (value.item() for value in default_estimator().predict(asked, return_std=True))
    low, high = max(strength - 1.96 * std, 0), strength + 1.96 * std
    shown = page.locator('tr [data-value="ours"]').inner_text()
    assert shown == f"{strength:.2f} ({low:.2f}–{high:.2f})"
    assert "no measured alloy has Fe" in part(page, "warnings").inner_text()


def test_playground_reads_what_people_type_and_says_what_it_cannot(playground):
    page = playground("#Mo-Nb-Ta&b=Nb₂Ti&units=mpa&at=1000")
    assert part(page, "text-a").input_value() == "MoNbTa" and part(page, "text-b").input_value() == "NbTi0.5"
    assert 100 < value(page, "ours", "b") < 3000 and "°C" in part(page, "at-value").inner_text()
    for text, said in (("NbRe", "Re is not one of the eleven elements"), ("Ti-6Al-4V", "ambiguous")):
        part(page, "text-a").fill(text)
        part(page, "text-a").press("Enter")
        assert said in part(page, "message").inner_text()
    part(page, "amounts").select_option("wt")
    part(page, "text-a").fill("50Mo50W")
    part(page, "text-a").press("Enter")
    page.locator('tr[data-alloy="a"] th', has_text=re.compile("MoW0.522$")).wait_for()
    page.wait_for_function("location.hash.includes('units=mpa') && location.hash.includes('amounts=wt')")


@pytest.mark.parametrize("fragment, said", [
    ("#%", "is not text"), ("#MoXx", "Xx is not one"), ("#at=nonsense", "at=nonsense"),
    ("#MoNb&at=1", "expected 250 to 4000 K"), ("#MoNb&colour=red", "is none of")])
def test_bad_address_is_said_and_the_page_lives(playground, fragment, said):
    page = playground(fragment)
    assert said in part(page, "message").inner_text()
    assert value(page, "ours") > 0


def test_playground_is_taken_along(playground, tmp_path):
    page = playground("#MoNbTaTiW&b=NbTaTi")
    with page.expect_download() as csv:
        part(page, "csv").click()
    table = pd.read_csv(csv.value.path())
    assert csv.value.suggested_filename == "MoNbTaTiW-and-NbTaTi.csv" and table["alloy"].nunique() == 2
    assert table["our_model_GPa"].between(table["our_model_from_GPa"], table["our_model_to_GPa"]).all()
    with page.expect_download() as png:
        part(page, "png").click()
    picture = tmp_path / "plot.png"
    png.value.save_as(picture)
    pixels = plt.imread(picture)
    assert pixels.shape[:2] == (840, 1440) and len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50


def test_leaderboard_shows_the_scores_of_the_predictions(site, board):
    rows = BeautifulSoup((site / "leaderboard.html").read_text(), "html.parser").select("#leaderboard tbody tr")
    assert len(rows) == len(board)
    shown = {(row["data-task"], row.th["data-value"]): float(row.select("td")[1]["data-value"]) for row in rows}
    for row in board.itertuples():
        assert shown[row.task, row.title.lower()] == pytest.approx(row.mse, rel=1e-4)


def test_code_of_an_entry_is_a_web_address_or_a_file_of_the_repository():
    from board import code_link

    assert code_link("https://example.org/a?b=1") == "https://example.org/a?b=1"
    assert code_link("xyield/peers.py") == "api/peers.html"
    for bad in ("javascript://%0aalert(1)", "https://a b", "nowhere.py", "../../etc/passwd", "/etc/passwd", "xyield"):
        with pytest.raises(ValueError, match="expected an address"):
            code_link(bad)


def test_leaderboard_is_sorted_and_filtered(site, browser):
    page = browser.new_page()
    page.goto((site / "leaderboard.html").as_uri() + "#systems")
    page.wait_for_selector("#leaderboard[data-ready]")
    seen = page.locator("#leaderboard tbody tr:visible")
    assert {row.get_attribute("data-task") for row in seen.all()} == {"systems"}
    before = seen.count()

    def column(number):
        values = [row.locator("td").nth(number).get_attribute("data-value") for row in seen.all()]
        return [float(v) for v in values if v]

    assert column(1) == sorted(column(1))  # MSE, as it comes
    page.locator("#leaderboard thead button", has_text="rank").click()
    assert column(4) == sorted(column(4), reverse=True)
    page.locator("#leaderboard thead button", has_text="rank").click()
    assert column(4) == sorted(column(4))
    page.locator("#leaderboard [data-filter=simulator]").select_option("no")
    assert 0 < seen.count() < before
    page.locator("#leaderboard [data-filter=text]").fill("no such entry")
    assert seen.count() == 0 and page.locator("#leaderboard .count").inner_text() == "0 entries"
    page.close()


def test_site_works_from_a_server(site, browser):
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page, missing = browser.new_page(), []
        page.on("response", lambda response: response.status >= 400 and missing.append(response.url))
        for name in ("index", "playground", "chapters/09_masks"):
            page.goto(f"http://127.0.0.1:{server.server_port}/{name}.html")
        assert page.locator("article h1").inner_text().startswith("09 Masks")
        assert not [url for url in missing if not url.endswith("favicon.ico")]
        page.close()
        server.shutdown()


@pytest.mark.parametrize("query", QUERIES)
def test_search_finds_what_people_type(site, browser, query):
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + f"?q={quote_plus(query)}")
    page.wait_for_selector("#search-results li a")
    found = [link.get_attribute("href") for link in page.locator("#search-results li a").all()[:3]]
    assert f"{QUERIES[query]}.html" in [url.partition("#")[0].partition("?")[0] for url in found], found
    page.close()


@pytest.mark.parametrize("name", ["chapters/10_bilevel", "chapters/30_experts", "chapters/03_simulator"])
def test_no_equation_is_cut_off_on_a_phone(site, browser, name):
    "Whatever is too wide can be scrolled to, its left end included."
    page = browser.new_page(viewport={"width": 390, "height": 850})
    page.goto((site / f"{name}.html").as_uri())
    page.wait_for_selector("mjx-container svg", state="attached", timeout=SLOW)
    page.wait_for_function("!document.body.innerText.includes('\\\\boldsymbol')", timeout=SLOW)
    lost = page.evaluate("""[...document.querySelectorAll("div.math svg g[data-mml-node=math]")].filter(g => {
        const box = g.closest("div.math"), left = g.getBoundingClientRect().left - box.getBoundingClientRect().left;
        return left + box.scrollLeft < -1;
    }).length""")
    assert lost == 0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(site, browser, scheme):
    pytest.importorskip("axe_playwright_python")
    from axe_playwright_python.sync_playwright import Axe

    found = {}
    for name in TYPES:
        page = browser.new_page(color_scheme=scheme, reduced_motion="reduce")  # else a colour may be seen as it changes
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        violations = Axe().run(page).response["violations"]
        found |= {f"{name}: {v['id']}": v["nodes"][0]["html"][:200] for v in violations}
        page.close()
    assert not found


@pytest.mark.slow  # a second build
def test_all_chapters_are_on_one_page_to_print(site):
    made = subprocess.run([sys.executable, "-c", "import printed; assert printed.write_page()"], cwd=ROOT / "docs",
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    page = HTML.parent / "print" / "print.html"
    tree = BeautifulSoup(page.read_text(), "html.parser")
    headings = " ".join(h.get_text() for h in tree.select("h2"))
    assert all(path.stem[:2] + " " in headings for path in (ROOT / "nbs").glob("[0-9]_*/*.ipynb"))
    assert len(tree.select("article img")) > 20
    assert not [src for src in addresses(tree, "article img[src]") if not (page.parent / src).is_file()]
