"""What the page to play with takes from Python: constants, measurements and networks, in one script file."""

import base64
import json

import numpy as np
import torch
from safetensors.torch import load_file
from site_paths import ROOT

from xyield import simulator
from xyield.alloys import CELSIUS_ZERO, PALETTE, TEMPERATURE_RANGE
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
        "images": {"shape": GRID_SHAPE, "positions": element_positions(sidecar["layout"]).tolist(),
                   "celsiusZero": CELSIUS_ZERO, "temperatureScale": TEMPERATURE_SCALE},
        "temperatureRange": TEMPERATURE_RANGE,
        "network": {"replicates": model.replicates, "padding": model.architecture.padding, "normEpsilon": norm.eps,
                    "constant": sidecar["constant_gpa"], "weights": base64.b64encode(WEIGHTS.read_bytes()).decode()},
        "measured": [{"formula": row["formula"], "system": row["system"], "temperature": row["temperature"],
                      "strength": round(row["yield_strength"], 4), "repeats": row["n_repeats"],
                      "composition": [row[e] for e in PALETTE]} for row in points.to_dict("records")],
    }


def write_page_data(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"var XYIELD_DATA = {json.dumps(page_data())};\n")
