// The simulator, our model and the transferred networks in plain JavaScript: no page, nothing fetched.
// Constants, tables, measurements and weights come from Python (playground-data.js).
var XYield = (function () {
  "use strict";

  const sum = (values) => values.reduce((a, b) => a + b, 0);

  // ---------------------------------------------------------------- formulas: the grammar of xyield.alloys (chapter 01)
  const LEADING = "([0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)([A-Z][a-z]?)", BETWEEN = "(?:\\s*-\\s*|\\s*)";

  // Mo₂Nb, Mo-Nb-Ta and 50Mo50Nb as amounts that follow their elements
  function conventional(text) {
    const plain = text.trim().replace(/[₀-₉]/g, (digit) => "₀₁₂₃₄₅₆₇₈₉".indexOf(digit)).replace(/[‐‑–−]/g, "-");
    if (new RegExp(`^${LEADING}(?:${BETWEEN}${LEADING})*$`).test(plain)) {
      return plain.replace(new RegExp(LEADING + BETWEEN, "g"), "$2$1 ");
    }
    return plain.replace(/([A-Za-z0-9.)])\s*-\s*(?=[A-Z(])/g, "$1 ");
  }

  // Amounts of each element of the palette, or what is wrong with the text.
  function amounts(data, text) {
    const plain = conventional(text.slice(0, 1001)), wrong = (error) => ({ error: `${JSON.stringify(text.slice(0, 60))}: ${error}` });
    if (!plain) return { error: "write a formula such as MoNbTaTi" };
    if (text.length > 1000) return wrong(`${text.length} characters; at most 1000 can be read`);
    if (/[^\x20-\x7e]/.test(plain)) return wrong("a character that is no letter, digit, parenthesis or hyphen");
    const names = plain.match(/[A-Z][a-z]?/g) || [], foreign = names.filter((e) => !data.palette.includes(e));
    if (foreign.length) return wrong(`${foreign[0]} is not one of the eleven elements`);
    const twice = names.find((e, i) => names.indexOf(e) !== i);
    if (twice) return wrong(`${twice} appears twice`);
    const groups = [new Map()], token = /\s+|(\()|(\))([0-9]*\.?[0-9]*)|([A-Z][a-z]?)([0-9]*\.?[0-9]*)/y;
    while (token.lastIndex < plain.length) {
      const at = token.lastIndex, found = token.exec(plain);
      if (!found) {
        return wrong(plain[at] === "-" ? "an amount after a hyphen is ambiguous; give each element its amount" : `cannot read “${plain.slice(at)}”`);
      }
      const [, opens, closes, times, element, amount] = found, text = closes ? times : amount;
      if (opens) { groups.push(new Map()); continue; }
      if (!closes && !element) continue;
      const number = text ? Number(text) : 1;
      if (Number.isNaN(number)) return wrong(`cannot read the amount “${text}”`);
      if (element) { groups.at(-1).set(element, number); continue; }
      if (groups.length === 1) return wrong("a parenthesis is closed that was not opened");
      const group = groups.pop(), total = sum([...group.values()]);
      if (!(total > 0)) return wrong("a group is empty");
      for (const [name, part] of group) groups.at(-1).set(name, part / total * number);
    }
    if (groups.length > 1) return wrong("a parenthesis is not closed");
    const values = data.palette.map((e) => groups[0].get(e) || 0), total = sum(values);
    if (!(total > 0)) return wrong("all amounts are zero");
    if (!Number.isFinite(total)) return wrong("an amount is too large");
    return { values: values.map((v) => v / total) };
  }

  // Atomic fractions of a formula whose amounts are atoms or, if `byWeight`, grams.
  function parse(data, text, byWeight) {
    const { values, error } = amounts(data, text);
    return error ? { error } : { composition: byWeight ? fromWeights(data, values) : values };
  }

  function formula(data, composition, digits = 3) {
    const most = Math.max(...composition);
    return data.palette.map((e, i) => {
      const amount = Number((composition[i] / most).toPrecision(digits));
      return composition[i] > 0 ? e + (amount === 1 ? "" : amount) : "";
    }).join("");
  }

  const normalised = (values) => values.map((v) => v / sum(values));
  const weights = (data, composition) => normalised(composition.map((c, i) => c * data.tables.mass[i]));
  const fromWeights = (data, fractions) => normalised(fractions.map((w, i) => w / data.tables.mass[i]));
  const mean = (table, composition) => sum(composition.map((c, i) => c * table[i]));

  // g/cm³, from the masses and the volumes of the elements
  function density(data, composition) {
    const { mass, density } = data.tables;
    return mean(mass, composition) / mean(mass.map((m, i) => m / density[i]), composition);
  }

  const melting = (data, composition) => mean(data.tables.melting, composition); // K, the rule of mixtures

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

  // ---------------------------------------------------------------- our model (chapters 27 and 29: SofteningGP)
  function descriptors(data, c) {
    const t = data.tables, table = data.elements.table4, volume = mean(table.map((e) => e[0]), c);
    const modulus = mean(table.map((e) => Math.sqrt(e[3] * (e[1] - e[2]) / 2)), c);
    const misfit = Math.sqrt(mean(table.map((e) => (e[0] - volume) ** 2), c)) / volume;
    const chi = mean(t.electronegativity, c), mismatch = Math.sqrt(mean(t.electronegativity.map((x) => (x - chi) ** 2), c));
    let enthalpy = 0;
    for (let a = 0; a < c.length; a++) for (let b = 0; b < a; b++) enthalpy += 4 * c[a] * c[b] * t.pairEnthalpy[a][b];
    const entropy = -t.gasConstant * sum(c.map((x) => (x > 0 ? x * Math.log(x) : 0)));
    return [mean(t.valence, c), volume, misfit, modulus, mismatch, melting(data, c), enthalpy, entropy, c[data.palette.indexOf("Al")]];
  }

  // Of an alloy, what does not depend on the temperature: the descriptors, standardised.
  function standardised(data, composition) {
    const { descriptorMean, descriptorSpread } = data.softening;
    return descriptors(data, composition).map((d, k) => (d - descriptorMean[k]) / descriptorSpread[k]);
  }

  const simulatedStrength = (data, composition, T) => Math.max(simulate(data, composition, [T])[0], 1e-3);
  const envelope = (s, homologous) => 1 / (1 + Math.exp((homologous - s.onset) / s.width));
  const thermal = (s, T) => Math.exp(-(T - 300) / s.decay);

  const gaussian = (x) => Math.exp(-x * x / 2);

  // inverse of a positive definite matrix [n, n], in place, from its Cholesky factor
  function invert(k, n) {
    for (let j = 0; j < n; j++) { // lower triangle: the factor L
      for (let i = j; i < n; i++) {
        let value = k[i * n + j];
        for (let m = 0, a = i * n, b = j * n; m < j; m++) value -= k[a + m] * k[b + m];
        k[i * n + j] = i === j ? Math.sqrt(value) : value / k[j * n + j];
      }
    }
    const inverse = new Float64Array(n * n); // row c: column c of L⁻¹
    for (let c = 0; c < n; c++) {
      const row = c * n;
      inverse[row + c] = 1 / k[c * n + c];
      for (let i = c + 1; i < n; i++) {
        let value = 0;
        for (let m = c, a = i * n; m < i; m++) value -= k[a + m] * inverse[row + m];
        inverse[row + i] = value / k[i * n + i];
      }
    }
    for (let a = 0; a < n; a++) {
      for (let b = 0; b <= a; b++) {
        let value = 0;
        for (let m = a, i = a * n, j = b * n; m < n; m++) value += inverse[i + m] * inverse[j + m];
        k[a * n + b] = k[b * n + a] = value;
      }
    }
  }

  // Points of one temperature are a group: a prediction then needs one pass over K⁻¹, whatever the number of temperatures.
  function readModel(data) {
    const m = data.softening, order = m.inputs.map((_, i) => i).sort((a, b) => m.inputs[a].at(-1) - m.inputs[b].at(-1));
    const points = order.map((i) => {
      const composition = m.inputs[i].slice(0, -1), kelvin = m.inputs[i].at(-1);
      return { kelvin, strength: m.strength[i], z: standardised(data, composition),
               homologous: kelvin / melting(data, composition), simulated: simulatedStrength(data, composition, kelvin) };
    });
    const kelvins = [...new Set(points.map((p) => p.kelvin))], group = points.map((p) => kelvins.indexOf(p.kelvin));
    return { kelvins, group, samples: m.samples.map((s) => sampled(s, points)) };
  }

  function sampled(s, points) {
    const n = points.length, d = s.relevance.length, x = new Float64Array(n * d), k = new Float64Array(n * n);
    const g = points.map((p) => envelope(s, p.homologous)), u = points.map((p) => thermal(s, p.kelvin));
    const power = points.map((p) => p.simulated ** s.power);
    points.forEach((p, i) => p.z.forEach((z, j) => { x[i * d + j] = z * s.relevance[j] / s.length; }));
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        let distance = 0;
        for (let q = 0; q < d; q++) distance += (x[i * d + q] - x[j * d + q]) ** 2;
        const near = gaussian((points[i].kelvin - points[j].kelvin) / s.kelvins), uu = u[i] * u[j];
        const chemistry = Math.exp(-distance / 2) * (s.chemistry ** 2 * uu + s.chemistry_temperature ** 2 * near);
        const value = s.constant ** 2 + s.thermal ** 2 * uu + s.simulator ** 2 * power[i] * power[j] + chemistry;
        k[i * n + j] = k[j * n + i] = g[i] * g[j] * value + (i === j ? s.noise ** 2 : 0);
      }
    }
    invert(k, n);
    const times = (v) => v.map((_, i) => { let total = 0; for (let j = 0; j < n; j++) total += k[i * n + j] * v[j]; return total; });
    const alpha = times(points.map((p) => p.strength));
    const common = [g, g.map((v, i) => v * u[i]), g.map((v, i) => v * power[i])]; // constant, thermal, simulator
    const solved = common.map(times), dot = (a, b) => sum(a.map((v, i) => v * b[i]));
    return { s, n, d, x, g, inverse: k, alpha, solved, kelvins: points.map((p) => p.kelvin),
             weights: common.map((v) => dot(v, alpha)), gram: common.map((a) => solved.map((b) => dot(a, b))) };
  }

  // What the covariance with the points has of the temperatures alone, for each sample: [temperatures, groups].
  function kernels(model, temperatures) {
    return model.samples.map(({ s }) => {
      const G = model.kelvins.length, values = new Float64Array(temperatures.length * G), known = model.kelvins.map((T) => thermal(s, T));
      temperatures.forEach((T, t) => model.kelvins.forEach((other, q) => {
        values[t * G + q] = s.chemistry ** 2 * thermal(s, T) * known[q] + s.chemistry_temperature ** 2 * gaussian((T - other) / s.kelvins);
      }));
      return values;
    });
  }

  // Mean and standard deviation (GPa) at temperatures, as of a new measurement.
  function strength(data, model, composition, temperatures, kernel = kernels(model, temperatures)) {
    const z = standardised(data, composition), Tm = melting(data, composition), n = temperatures.length, G = model.kelvins.length;
    const simulated = simulate(data, composition, temperatures).map((v) => Math.max(v, 1e-3));
    const means = new Float64Array(n), squares = new Float64Array(n), variances = new Float64Array(n);
    model.samples.forEach((sample, k) => {
      const { s, weights, gram } = sample, { mean, quadratic, cross } = grouped(model, sample, z), v = kernel[k];
      for (let t = 0; t < n; t++) {
        const T = temperatures[t], g = envelope(s, T / Tm), u = thermal(s, T), p = simulated[t] ** s.power, at = t * G;
        const a = s.constant ** 2, b = s.thermal ** 2 * u, c = s.simulator ** 2 * p;
        let value = a * weights[0] + b * weights[1] + c * weights[2];
        let explained = a * a * gram[0][0] + b * b * gram[1][1] + c * c * gram[2][2] + 2 * (a * b * gram[0][1] + a * c * gram[0][2] + b * c * gram[1][2]);
        for (let q = 0; q < G; q++) {
          const v_q = v[at + q];
          let others = a * cross[0][q] + b * cross[1][q] + c * cross[2][q] + v_q * quadratic[q * G + q] / 2;
          for (let r = 0; r < q; r++) others += v[at + r] * quadratic[q * G + r];
          value += v_q * mean[q];
          explained += 2 * v_q * others;
        }
        const prior = a + b * u + c * p + s.chemistry ** 2 * u * u + s.chemistry_temperature ** 2;
        means[t] += g * value;
        squares[t] += (g * value) ** 2;
        variances[t] += g * g * (prior - explained) + s.noise ** 2;
      }
    });
    const count = model.samples.length;
    return temperatures.map((_, t) => {
      const mean = means[t] / count;
      return { mean, std: Math.sqrt(variances[t] / count + squares[t] / count - mean ** 2) };
    });
  }

  // The chemistry's covariance with the points, summed over the points of each temperature.
  function grouped({ group, kelvins }, { s, n, d, x, g, inverse, alpha, solved }, z) {
    const w = new Float64Array(n), G = kelvins.length, here = z.map((v, j) => v * s.relevance[j] / s.length);
    const mean = new Float64Array(G), quadratic = new Float64Array(G * G), cross = solved.map(() => new Float64Array(G));
    for (let i = 0; i < n; i++) {
      let distance = 0;
      for (let q = 0; q < d; q++) distance += (x[i * d + q] - here[q]) ** 2;
      w[i] = g[i] * Math.exp(-distance / 2);
      mean[group[i]] += w[i] * alpha[i];
      for (let a = 0; a < 3; a++) cross[a][group[i]] += w[i] * solved[a][i];
    }
    const row = new Float64Array(G); // points are in the order of their groups, so that the lower triangle is enough
    for (let i = 0; i < n; i++) {
      row.fill(0);
      for (let j = 0, at = i * n; j < i; j++) row[group[j]] += inverse[at + j] * w[j];
      for (let q = 0, at = group[i] * G; q <= group[i]; q++) quadratic[at + q] += w[i] * row[q] * (q === group[i] ? 2 : 1);
      quadratic[group[i] * (G + 1)] += w[i] * w[i] * inverse[i * (n + 1)];
    }
    return { mean, quadratic, cross };
  }

  // In which respects an alloy at a temperature is outside of what the model was fitted on, in Python's words.
  function extrapolation(data, composition, T) {
    const { most, fewest, coldest, hottest } = data.softening, found = [];
    composition.forEach((c, i) => {
      const e = data.palette[i];
      if (c > most[i] + 0.02) found.push(most[i] === 0 ? `no alloy with ${e}` : `no alloy with more than ${(100 * most[i]).toFixed(0)}% ${e}`);
    });
    if (composition.filter((c) => c > 0).length < fewest) found.push(`no alloy of fewer than ${fewest} elements`);
    if (!(coldest - 25 <= T && T <= hottest + 25)) found.push(`no temperature outside ${coldest} to ${hottest} K`);
    return found.join(", ");
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

  // [rows, columns] as [columns, rows]
  function transposed(values, from, rows, columns) {
    const output = new Float32Array(rows * columns);
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) output[c * rows + r] = values[from + r * columns + c];
    return output;
  }

  // The networks one by one. Convolutions are numbered 0, 3, 6, … and each is followed by its batch normalisation.
  function readNetworks(data) {
    const tensors = readTensors(data.network.weights), R = data.network.replicates;
    const part = (name, r) => { const { values } = tensors[name]; return values.slice(values.length / R * r, values.length / R * (r + 1)); };
    const dense = (name, r) => {
      const [, rows, columns] = tensors[name + ".weight"].shape;
      return { weight: transposed(tensors[name + ".weight"].values, r * rows * columns, rows, columns), bias: part(name + ".bias", r) };
    };
    return Array.from({ length: R }, (_, r) => {
      const layers = [];
      for (let k = 0; tensors[`features.${k}.weight`]; k += 3) {
        const of = (name) => part(`features.${k + 1}.${name}`, r), bias = part(`features.${k}.bias`, r), moved = of("running_mean");
        const scale = of("weight").map((w, i) => w / Math.sqrt(of("running_var")[i] + data.network.normEpsilon));
        const shift = of("bias").map((b, i) => b + (bias[i] - moved[i]) * scale[i]);
        const weight = part(`features.${k}.weight`, r), outside = scale.length, columns = weight.length / outside;
        layers.push({ weight: transposed(weight, 0, outside, columns), scale, shift, outside, inside: columns / 9 });
      }
      return { layers, hidden: dense("hidden", r), output: dense("output", r) };
    });
  }

  // After a ReLU many inputs are zero; they are passed over.
  function convolve(input, height, width, { weight, scale, shift, outside, inside }, padding) {
    const H = height + 2 * padding - 2, W = width + 2 * padding - 2, output = new Float32Array(outside * H * W);
    const sums = new Float64Array(outside);
    for (let row = 0; row < H; row++) {
      for (let column = 0; column < W; column++) {
        sums.fill(0);
        for (let k = 0; k < 9; k++) {
          const y = row + Math.floor(k / 3) - padding, x = column + k % 3 - padding;
          if (y < 0 || y >= height || x < 0 || x >= width) continue;
          for (let i = 0; i < inside; i++) {
            const value = input[(i * height + y) * width + x];
            if (value === 0) continue;
            for (let o = 0, at = (i * 9 + k) * outside; o < outside; o++) sums[o] += value * weight[at + o];
          }
        }
        for (let o = 0; o < outside; o++) output[(o * H + row) * W + column] = Math.max(0, sums[o] * scale[o] + shift[o]);
      }
    }
    return { values: output, height: H, width: W };
  }

  function linear(input, { weight, bias }) {
    const sums = Float64Array.from(bias), n = sums.length;
    for (let i = 0; i < input.length; i++) {
      if (input[i] !== 0) for (let j = 0; j < n; j++) sums[j] += input[i] * weight[i * n + j];
    }
    return sums;
  }

  function pseudoImage(data, composition, T) {
    const [height, width] = data.images.shape, image = new Float32Array(2 * height * width);
    data.images.positions.forEach(([row, column], i) => { image[row * width + column] = composition[i]; });
    image.fill((T - data.images.celsiusZero) / data.images.temperatureScale, height * width);
    return image;
  }

  // [members], GPa, at one temperature
  function predictAt(data, networks, composition, T) {
    const image = pseudoImage(data, composition, T);
    return networks.map(({ layers, hidden, output }) => {
      let [height, width] = data.images.shape, values = image;
      for (const layer of layers) ({ values, height, width } = convolve(values, height, width, layer, data.network.padding));
      return linear(linear(values, hidden).map((v) => Math.max(0, v)), output)[0];
    });
  }

  // mean and standard deviation: the members' spread and the constant part, see the notebook `playground`
  function band(data, members) {
    const mean = sum(members) / members.length, variance = sum(members.map((v) => (v - mean) ** 2)) / (members.length - 1);
    return { mean, std: Math.sqrt(variance + data.network.constant ** 2) };
  }

  return { amounts, parse, formula, weights, fromWeights, density, melting, simulate, strengthParameters, descriptors, readModel,
           kernels, strength, extrapolation, readNetworks, predictAt, band };
})();

if (typeof module !== "undefined") module.exports = XYield;
