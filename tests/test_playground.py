"""The playground's arithmetic in JavaScript: the same formulas and the same numbers as in Python, and fast enough."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xyield.alloys import PALETTE, parse_formula

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
KELVIN = [256.0, 293.15, 500.0, 873.15, 1273.15, 1900.0, 2300.0]
ALLOYS = ["MoNbTaTiW", "CrFeWZr", "Al0.5HfNbTaTiZr", "W", "Mo95Nb5", "HfNbTaTiZr", "Al3V"]
TYPED = {"Mo-Nb-Ta": "MoNbTa", "Mo₂Nb": "Mo2Nb", "50Mo50Nb": "MoNb", "33.3Mo-33.3Nb-33.4Ta": "Mo33.3Nb33.3Ta33.4",
         "Mo–Nb–Ta₀.₅": "MoNbTa0.5", "(NbTa)50-Mo50": "NbTaMo2", " 20Al 80Ti ": "AlTi4", "Nb - Ta": "NbTa"}
REFUSED = ["Ti-6Al-4V", "Mo-1Nb", "Mo-50Nb", "50MoNb", "50Mo50Nb50", "Mo--Nb", "-Mo", "Mo-", "Mo²Nb", "Mo２Nb", "",
           "  ", "()", "(Mo", "Mo)", "Mo.", "Mo1.2.3", "Mo 2", "Mo2e3", "MoMo", "MoRe", "Mo0Nb0", "(Mo0)Nb", "mo",
           "1" * 400 + "MoNb", "Mo" + "1" * 400, "Mo" * 600, "%", "Mo{2}", "Mo&Nb", "2(MoNb)"]


def random_formulas(n=300, seed=0):
    "Formulas with groups, blanks and amounts, as the grammar of chapter 01 has them; some are spoilt."
    rng = np.random.default_rng(seed)
    amounts = ["", "", "2", "0.5", ".25", "3.", "12.5", "0"]

    def some(elements):
        text = "".join(e + rng.choice(amounts) + rng.choice(["", "", " "]) for e in elements)
        if len(elements) > 1 and rng.random() < 0.5:
            cut = rng.integers(1, len(elements))
            text = f"({some(elements[:cut])}){rng.choice(amounts)}" + some(elements[cut:])
        return text

    formulas = [some(rng.permutation(PALETTE)[: rng.integers(1, 7)].tolist()) for _ in range(n)]
    for i in range(0, n, 5):
        at = rng.integers(len(formulas[i]) + 1)
        formulas[i] = formulas[i][:at] + rng.choice(list("()-.x9₂– M")) + formulas[i][at:]
    return formulas


@pytest.fixture(scope="module")
def script_files(tmp_path_factory):
    "The models' script and the data from Python."
    from playground import write_page_data

    data = tmp_path_factory.mktemp("playground") / "playground-data.js"
    write_page_data(data)
    return ROOT / "docs" / "static" / "playground-models.js", data


@pytest.fixture(scope="module")
def javascript(script_files):
    "Evaluate an expression of the names XY and DATA in Node."
    if not shutil.which("node"):
        pytest.skip("no Node is installed; the site's tests in a browser see part of this")
    models, data = map(str, script_files)

    def evaluate(code, **given):
        program = "".join([
            "global.atob = b => Buffer.from(b, 'base64').toString('latin1');",
            f"const XY = require({json.dumps(models)});",
            f"const text = require('fs').readFileSync({json.dumps(data)}, 'utf8');",
            "const DATA = new Function(text + ';return XYIELD_DATA')();",
            *(f"const {name} = {json.dumps(value)};" for name, value in given.items()),
            f"const answer = (() => {{ {code} }})(); require('fs').writeSync(1, JSON.stringify(answer));"])
        done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


def read(formula):
    try:
        return parse_formula(formula)
    except ValueError:
        return None


def test_formulas_are_read_as_in_python(javascript):
    "What one accepts, the other does, and it means the same."
    formulas = [*ALLOYS, "(NbTa)0.5Mo0.5", "Mo1 Nb1 Ta1 Ti0.25 W1", "((MoNb)2Ta)3W", *TYPED, *REFUSED]
    formulas += random_formulas()
    found = javascript("return FORMULAS.map(f => XY.parse(DATA, f))", FORMULAS=formulas)
    accepted = 0
    for text, answer in zip(formulas, found, strict=True):
        expected = read(text)
        assert (expected is None) == ("error" in answer), (text, answer)
        if expected is not None:
            accepted += 1
            np.testing.assert_allclose(answer["composition"], expected, atol=1e-12, err_msg=text)
    assert 150 < accepted < len(formulas)


def test_what_people_type_is_read_or_refused_with_a_reason(javascript):
    found = javascript("return FORMULAS.map(f => XY.parse(DATA, f))", FORMULAS=[*TYPED, *REFUSED])
    for (typed, meant), answer in zip(TYPED.items(), found, strict=False):
        np.testing.assert_allclose(answer["composition"], parse_formula(meant), atol=1e-12, err_msg=typed)
        np.testing.assert_allclose(parse_formula(typed), parse_formula(meant), atol=1e-12, err_msg=typed)
    for text, answer in zip(REFUSED, found[len(TYPED) :], strict=True):
        assert answer.get("error"), text


def test_models_say_what_they_say_in_python(javascript):
    from playground import ensemble, networks

    from xyield.estimator import default_estimator
    from xyield.simulator import yield_strength

    found = javascript("""
        const model = XY.readModel(DATA), networks = XY.readNetworks(DATA);
        return ALLOYS.map(text => {
          const c = XY.parse(DATA, text).composition;
          return { simulated: ["table4", "atlas"].map(p => XY.simulate(DATA, c, KELVIN, p)),
                   ours: XY.strength(DATA, model, c, KELVIN), remarks: KELVIN.map(T => XY.remark(DATA, c, T)),
                   outputs: KELVIN.map(T => XY.predictAt(DATA, networks, c, T)),
                   band: KELVIN.map(T => XY.band(DATA, XY.predictAt(DATA, networks, c, T))) };
        });""", ALLOYS=ALLOYS, KELVIN=KELVIN)
    kelvin, model, constant = np.array(KELVIN), default_estimator(), networks()[1]["constant_gpa"]
    for text, answer in zip(ALLOYS, found, strict=True):
        composition = parse_formula(text)
        for preset, simulated in zip(("table4", "atlas"), answer["simulated"], strict=True):
            np.testing.assert_allclose(simulated, yield_strength(composition, kelvin, preset), rtol=1e-9, err_msg=text)
        asked = np.column_stack([np.tile(composition, (len(kelvin), 1)), kelvin])
        mean, std = model.predict(asked, return_std=True)
        np.testing.assert_allclose([p["mean"] for p in answer["ours"]], mean, atol=1e-6, err_msg=text)
        np.testing.assert_allclose([p["std"] for p in answer["ours"]], std, atol=1e-6, err_msg=text)
        assert answer["remarks"] == model.remarks(asked)
        outputs = ensemble(composition, kelvin)
        np.testing.assert_allclose(np.transpose(answer["outputs"]), outputs, atol=1e-4, err_msg=text)
        sigma = (outputs.var(0, ddof=1) + constant**2) ** 0.5
        np.testing.assert_allclose([b["mean"] for b in answer["band"]], outputs.mean(0), atol=1e-4)
        np.testing.assert_allclose([b["std"] for b in answer["band"]], sigma, atol=1e-4)


def test_density_melting_point_and_weights_are_the_library_s(javascript):
    import hea_bench
    from hea_bench.properties.tier_a import density

    found = javascript("""return ALLOYS.map(text => {
        const c = XY.parse(DATA, text).composition, w = XY.weights(DATA, c);
        return { density: XY.density(DATA, c), melting: XY.melting(DATA, c), w, back: XY.fromWeights(DATA, w) };
    })""", ALLOYS=ALLOYS)
    for text, answer in zip(ALLOYS, found, strict=True):
        composition = parse_formula(text)
        amounts = {e: x for e, x in zip(PALETTE, composition.tolist(), strict=True) if x}
        assert answer["density"] == pytest.approx(density(amounts))
        assert answer["melting"] == pytest.approx(hea_bench.melting_temperature(amounts))
        assert sum(answer["w"]) == pytest.approx(1)
        np.testing.assert_allclose(answer["back"], composition, atol=1e-12)
    wolfram = javascript("return XY.parse(DATA, 'Mo50W50', true).composition")
    assert wolfram[PALETTE.index("Mo")] == pytest.approx(183.84 / (183.84 + 95.95), rel=1e-3)


def test_a_step_of_a_slider_takes_less_than_a_frame(javascript):
    "Processor time, so that a busy machine does not matter much; the first calls are compiled."
    milliseconds = javascript("""
        const model = XY.readModel(DATA), networks = XY.readNetworks(DATA);
        const kelvin = Array.from({ length: 82 }, (_, i) => 250 + 20 * i), kernel = XY.kernels(model, kelvin);
        const time = (work) => {
          const times = Array.from({ length: 40 }, (_, i) => {
            const before = process.cpuUsage();
            work(XY.parse(DATA, `MoNbTaTiW${1 + i / 100}`).composition);
            const { user, system } = process.cpuUsage(before);
            return (user + system) / 1000;
          });
          return times.slice(10).sort((a, b) => a - b)[10];
        };
        return { event: time(c => [XY.strength(DATA, model, c, kelvin, kernel), XY.simulate(DATA, c, kelvin)]),
                 slice: time(c => XY.predictAt(DATA, networks, c, 1000)) };""")
    print(milliseconds)
    assert milliseconds["event"] < 16 and milliseconds["slice"] < 16
