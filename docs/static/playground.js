// The simulator and the transferred networks in plain JavaScript, and the page that shows them.
// Constants, element tables, measurements and weights come from Python (playground-data.js); nothing is fetched.
var XYield = (function () {
  "use strict";

  // ---------------------------------------------------------------- simulator (chapter 03)
  function strengthParameters(data, composition, preset) {
    const table = data.elements[preset || "table4"], s = data.simulator;
    const mean = (k) => composition.reduce((sum, c, i) => sum + c * table[i][k], 0);
    const volume = mean(0), c11 = mean(1), c12 = mean(2), c44 = mean(3);
    const misfit = composition.reduce((sum, c, i) => sum + c * (table[i][0] - volume) ** 2, 0);
    const mu = Math.sqrt(c44 * (c11 - c12) / 2), bulk = (c11 + 2 * c12) / 3;
    const nu = (3 * bulk - 2 * mu) / (2 * (3 * bulk + mu)), q = (1 + nu) / (1 - nu);
    const burgersCubed = (Math.sqrt(3) / 2) ** 3 * 2 * volume;
    const ratio = Math.cbrt(misfit / burgersCubed ** 2);
    return {
      tau: 0.040 * s.alpha ** (-1 / 3) * mu * q ** (4 / 3) * ratio ** 2,
      barrier: 2.00 * s.alpha ** (1 / 3) * mu * burgersCubed * q ** (2 / 3) * ratio / s.gpaA3PerEv,
    };
  }

  function simulate(data, composition, temperatures, preset) {
    const s = data.simulator, { tau, barrier } = strengthParameters(data, composition, preset);
    const logRate = Math.log(s.referenceStrainRate / s.strainRate);
    return temperatures.map((T) => {
      if (!(barrier > 0)) return 0; // a pure element has no misfit
      const x = s.boltzmann * T * logRate / barrier, low = 1 - Math.cbrt(x) ** 2;
      return s.taylor * tau * (low >= 0.5 ? low : Math.exp(-x / 0.55));
    });
  }

  // ---------------------------------------------------------------- networks (chapters 05 and 08)
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  function readTensors(base64) {
    const text = atob(base64), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const view = new DataView(bytes.buffer), headerSize = Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerSize)));
    const tensors = {};
    for (const [name, entry] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const [from, to] = entry.data_offsets.map((offset) => offset + 8 + headerSize);
      const width = { F16: 2, F32: 4 }[entry.dtype], values = new Float32Array((to - from) / width);
      for (let i = 0; i < values.length; i++) {
        values[i] = width === 4 ? view.getFloat32(from + 4 * i, true) : half(view.getUint16(from + 2 * i, true));
      }
      tensors[name] = { shape: entry.shape, values };
    }
    return tensors;
  }

  // A convolution's layers are numbered 0, 3, 6, … and each is followed by its batch normalisation.
  function readNetworks(data) {
    const tensors = readTensors(data.network.weights), R = data.network.replicates, layers = [];
    for (let k = 0; tensors[`features.${k}.weight`]; k += 3) {
      const of = (name) => tensors[name].values, norm = `features.${k + 1}.`;
      const scale = of(norm + "weight").map((w, i) => w / Math.sqrt(of(norm + "running_var")[i] + data.network.normEpsilon));
      const shift = of(norm + "bias").map((b, i) => b + (of(`features.${k}.bias`)[i] - of(norm + "running_mean")[i]) * scale[i]);
      const shape = tensors[`features.${k}.weight`].shape;
      layers.push({ weight: of(`features.${k}.weight`), scale, shift, outside: shape[0] / R, inside: shape[1] });
    }
    return { replicates: R, layers, tensors };
  }

  function convolve(input, height, width, layer, replicate, padding) {
    const H = height + 2 * padding - 2, W = width + 2 * padding - 2, output = new Float32Array(layer.outside * H * W);
    for (let o = 0; o < layer.outside; o++) {
      const channel = replicate * layer.outside + o;
      for (let row = 0; row < H; row++) {
        for (let column = 0; column < W; column++) {
          let sum = 0;
          for (let i = 0; i < layer.inside; i++) {
            const kernel = (channel * layer.inside + i) * 9;
            for (let a = 0; a < 3; a++) {
              const y = row + a - padding;
              if (y < 0 || y >= height) continue;
              for (let b = 0; b < 3; b++) {
                const x = column + b - padding;
                if (x >= 0 && x < width) sum += layer.weight[kernel + 3 * a + b] * input[(i * height + y) * width + x];
              }
            }
          }
          output[(o * H + row) * W + column] = Math.max(0, sum * layer.scale[channel] + layer.shift[channel]);
        }
      }
    }
    return { values: output, height: H, width: W };
  }

  function linear(input, weight, bias, replicate, n) {
    const size = input.length, output = new Float32Array(n);
    for (let j = 0; j < n; j++) {
      let sum = bias[replicate * n + j];
      const start = (replicate * n + j) * size;
      for (let i = 0; i < size; i++) sum += weight[start + i] * input[i];
      output[j] = sum;
    }
    return output;
  }

  function pseudoImage(data, composition, T) {
    const [height, width] = data.images.shape, image = new Float32Array(2 * height * width);
    data.images.positions.forEach(([row, column], i) => { image[row * width + column] = composition[i]; });
    image.fill((T - data.images.celsiusZero) / data.images.temperatureScale, height * width);
    return image;
  }

  // [members][temperatures], GPa
  function predict(data, networks, composition, temperatures) {
    const { layers, tensors, replicates } = networks, hidden = tensors["hidden.bias"].shape[1], result = [];
    for (let r = 0; r < replicates; r++) {
      result.push(temperatures.map((T) => {
        let [height, width] = data.images.shape, values = pseudoImage(data, composition, T);
        for (const layer of layers) {
          ({ values, height, width } = convolve(values, height, width, layer, r, data.network.padding));
        }
        const inner = linear(values, tensors["hidden.weight"].values, tensors["hidden.bias"].values, r, hidden);
        return linear(inner.map((v) => Math.max(0, v)), tensors["output.weight"].values, tensors["output.bias"].values, r, 1)[0];
      }));
    }
    return result;
  }

  // mean and standard deviation: the members' spread and the constant part, see the notebook `playground`
  function band(data, outputs) {
    return outputs[0].map((_, t) => {
      const values = outputs.map((row) => row[t]), mean = values.reduce((a, b) => a + b) / values.length;
      const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1);
      return { mean, sigma: Math.sqrt(variance + data.network.constant ** 2) };
    });
  }

  // ---------------------------------------------------------------- formulas
  function parse(data, text) {
    const amounts = new Array(data.palette.length).fill(0), pattern = /([A-Z][a-z]?)(\d*\.?\d*)/g;
    let rest = text.replace(/[\s_{}]/g, "");
    if (!rest) return { error: "write a formula such as MoNbTaTi" };
    for (const [whole, element, amount] of rest.matchAll(pattern)) {
      const i = data.palette.indexOf(element);
      if (i < 0) return { error: `${element} is not one of the eleven elements` };
      if (amounts[i]) return { error: `${element} appears twice` };
      amounts[i] = amount === "" ? 1 : Number(amount);
      rest = rest.replace(whole, "");
    }
    if (rest) return { error: `cannot read “${rest}”` };
    const total = amounts.reduce((a, b) => a + b);
    if (!(total > 0)) return { error: "all amounts are zero" };
    return { composition: amounts.map((a) => a / total) };
  }

  function formula(data, composition) {
    const most = Math.max(...composition);
    return data.palette.map((e, i) => {
      const amount = Number((composition[i] / most).toPrecision(3));
      return composition[i] > 0 ? e + (amount === 1 ? "" : amount) : "";
    }).join("");
  }

  // ---------------------------------------------------------------- the page
  function start(root, data) {
    const networks = readNetworks(data), $ = (name) => root.querySelector(`[data-part="${name}"]`);
    const parts = data.palette.map((element) => {
      const label = document.createElement("label");
      label.innerHTML = `<span class="element">${element}</span><input type="range" min="0" max="100" step="1" value="0" ` +
        `aria-label="${element}, parts" data-element="${element}"><output></output>`;
      $("sliders").append(label);
      return { input: label.querySelector("input"), output: label.querySelector("output") };
    });
    const alloys = [...new Set(data.measured.map((p) => p.formula))];
    $("alloys").append(...alloys.map((f) => new Option(f.replace(/([A-Z][a-z]?)1(?=\s|$)/g, "$1").replace(/ /g, ""), f)));

    function composition() {
      const values = parts.map(({ input }) => Number(input.value)), total = values.reduce((a, b) => a + b);
      return total > 0 ? values.map((v) => v / total) : null;
    }

    function setComposition(fractions) {
      const most = Math.max(...fractions);
      parts.forEach(({ input }, i) => { input.value = Math.round(100 * fractions[i] / most); });
      exact = fractions;
    }

    let exact = null; // what a formula said, until a slider moves
    function range() {
      const [low, high] = data.temperatureRange;
      const clamp = (v) => Math.min(high, Math.max(low, Number(v) || low));
      const a = clamp($("from").value), b = clamp($("to").value);
      return a < b ? [a, b] : [Math.min(a, high - 50), Math.min(a, high - 50) + 50];
    }

    function draw() {
      const fractions = exact || composition();
      if (!fractions) { $("message").textContent = "All fractions are zero: move a slider."; return; }
      $("message").textContent = "";
      parts.forEach(({ output }, i) => { output.textContent = (100 * fractions[i]).toFixed(1) + " %"; });
      const [from, to] = range(), grid = (n) => Array.from({ length: n }, (_, i) => from + (to - from) * i / (n - 1));
      const fine = grid(161), coarse = grid(25);
      const at = Math.min(to, Math.max(from, Number($("at").value)));
      const simulated = simulate(data, fractions, fine);
      const predicted = band(data, predict(data, networks, fractions, coarse));
      const system = data.palette.filter((_, i) => fractions[i] > 0).join("-");
      const points = data.measured.filter((p) => p.system === system && p.temperature >= from && p.temperature <= to);
      const same = (p) => p.composition.every((c, i) => Math.abs(c - fractions[i]) < 0.006);
      plot($("plot"), { from, to, fine, coarse, simulated, predicted, points, same });
      const [here] = band(data, predict(data, networks, fractions, [at])), [sim] = simulate(data, fractions, [at]);
      $("formula").textContent = formula(data, fractions);
      $("temperature").textContent = at.toFixed(0);
      $("at-value").textContent = `${at.toFixed(0)} K (${(at - data.images.celsiusZero).toFixed(0)} °C)`;
      $("simulated").textContent = sim.toFixed(3);
      $("predicted").textContent = `${here.mean.toFixed(3)} ± ${(2 * here.sigma).toFixed(3)}`;
      const inSystem = data.measured.filter((p) => p.system === system);
      $("count").textContent = inSystem.length
        ? `${inSystem.length} measured points of the system ${system}, ${inSystem.filter(same).length} of them of this alloy.`
        : `No measured alloy of the system ${system}: everything here is an extrapolation.`;
    }

    let pending = false;
    function redraw() {
      if (pending) return;
      pending = true;
      requestAnimationFrame(() => { pending = false; draw(); });
    }

    function choose(text) {
      const found = parse(data, text);
      $("message").textContent = found.error || "";
      if (found.error) return false;
      setComposition(found.composition);
      draw();
      return true;
    }

    parts.forEach(({ input }) => input.addEventListener("input", () => { exact = null; $("text").value = ""; redraw(); }));
    for (const name of ["from", "to", "at"]) $(name).addEventListener("input", redraw);
    $("alloys").addEventListener("change", (event) => {
      if (!event.target.value) return;
      $("text").value = event.target.selectedOptions[0].textContent;
      choose(event.target.value);
    });
    $("text").addEventListener("change", (event) => choose(event.target.value));
    const wanted = decodeURIComponent(location.hash.slice(1));
    if (!(wanted && choose(wanted))) choose("MoNbTaTiW");
    root.dataset.ready = "yes";
  }

  function plot(svg, { from, to, fine, coarse, simulated, predicted, points, same }) {
    const W = 720, H = 420, left = 78, right = 26, top = 12, bottom = 52;
    const highest = Math.max(...simulated, ...predicted.map((p) => p.mean + 2 * p.sigma), ...points.map((p) => p.strength), 0.5);
    const step = [0.1, 0.25, 0.5, 1, 2].find((s) => highest / s <= 7) || 5, high = Math.ceil(highest / step) * step;
    const x = (T) => left + (T - from) / (to - from) * (W - left - right);
    const y = (s) => H - bottom - Math.max(0, s) / high * (H - top - bottom);
    const line = (T, v) => T.map((t, i) => `${i ? "L" : "M"}${x(t).toFixed(1)},${y(v[i]).toFixed(1)}`).join("");
    const upper = predicted.map((p) => p.mean + 2 * p.sigma), lower = predicted.map((p) => p.mean - 2 * p.sigma);
    const area = line(coarse, upper) + line([...coarse].reverse(), [...lower].reverse()).replace("M", "L") + "Z";
    const out = [];
    for (let s = 0; s <= high + 1e-9; s += step) {
      out.push(`<line class="grid" x1="${left}" x2="${W - right}" y1="${y(s)}" y2="${y(s)}"/>` +
        `<text x="${left - 8}" y="${y(s) + 4}" text-anchor="end">${+s.toFixed(2)}</text>`);
    }
    const tick = [50, 100, 200, 250, 500].find((t) => (to - from) / t <= 8) || 1000;
    for (let T = Math.ceil(from / tick) * tick; T <= to; T += tick) {
      out.push(`<line class="tick" x1="${x(T)}" x2="${x(T)}" y1="${H - bottom}" y2="${H - bottom + 5}"/>` +
        `<text x="${x(T)}" y="${H - bottom + 19}" text-anchor="middle">${T}</text>`);
    }
    out.push(`<text x="${(left + W - right) / 2}" y="${H - 6}" text-anchor="middle">temperature (K)</text>`);
    out.push(`<text transform="translate(18,${(H - bottom + top) / 2}) rotate(-90)" text-anchor="middle">yield strength (GPa)</text>`);
    out.push(`<path class="band" d="${area}"/><path class="network" d="${line(coarse, predicted.map((p) => p.mean))}"/>`);
    out.push(`<path class="simulator" d="${line(fine, simulated)}"/>`);
    for (const p of [...points].sort((a, b) => same(a) - same(b))) {
      out.push(`<circle class="${same(p) ? "measured" : "related"}" r="5" cx="${x(p.temperature)}" cy="${y(p.strength)}">` +
        `<title>${p.formula}: ${p.strength.toFixed(3)} GPa at ${p.temperature} K (${p.repeats} measurement${p.repeats > 1 ? "s" : ""})</title></circle>`);
    }
    svg.innerHTML = out.join("");
  }

  return { simulate, strengthParameters, readNetworks, predict, band, parse, formula, start };
})();

if (typeof module !== "undefined") module.exports = XYield;
if (typeof document !== "undefined") {
  document.addEventListener("DOMContentLoaded", () => {
    const root = document.getElementById("playground");
    if (root) XYield.start(root, XYIELD_DATA);
  });
}
