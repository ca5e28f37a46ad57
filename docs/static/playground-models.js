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

  // ---------------------------------------------------------------- our model (chapters 27, 30 and 32: XYieldEstimator)
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
    const { descriptorMean, descriptorSpread } = data.model;
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

  // The model from its numbers, sample by sample, since this takes a second: the last `next()` gives it.
  // Points of one temperature are a group: a prediction then needs one pass over K⁻¹, whatever the number of temperatures.
  function* learn(data) {
    const m = data.model, order = m.inputs.map((_, i) => i).sort((a, b) => m.inputs[a].at(-1) - m.inputs[b].at(-1));
    const points = order.map((i) => {
      const composition = m.inputs[i].slice(0, -1), kelvin = m.inputs[i].at(-1);
      return { composition, kelvin, strength: m.strength[i], several: !m.singlePhase[i], z: standardised(data, composition),
               homologous: kelvin / melting(data, composition), simulated: simulatedStrength(data, composition, kelvin) };
    });
    const kelvins = [...new Set(points.map((p) => p.kelvin))], group = points.map((p) => kelvins.indexOf(p.kelvin));
    const experts = Object.values(m.samples).map(() => []);
    for (const [e, samples] of Object.values(m.samples).entries()) {
      for (const s of samples) yield experts[e].push(sampled(s, points));
    }
    return { kelvins, group, ends: kelvins.map((T) => points.findLastIndex((p) => p.kelvin === T) + 1), experts };
  }

  function readModel(data) {
    const learning = learn(data);
    for (;;) { const { done, value } = learning.next(); if (done) return value; }
  }

  // How an expert sees the neighbourhood of an alloy: where it is, and how much of that softens and how much does not.
  const place = (s, composition, z) => s.local === undefined ? z.map((v, k) => v * s.relevance[k] / s.length) : composition.map((c) => c / s.fraction);
  const fast = (s) => s.local === undefined ? s.chemistry ** 2 : 0;
  const slow = (s) => (s.local === undefined ? s.chemistry_temperature : s.local) ** 2;

  // What all alloys share, as three vectors: times 1, times u(T), and times S(T)^p.
  function shared(s, composition) {
    const some = (first, amount) => s.local === undefined ? first : [...first, ...amount];
    const none = composition.map(() => 0);
    return [some([s.constant, 0, 0], [...none, ...composition.map((c) => s.elements * c)]),
            some([0, s.thermal, 0], [...composition.map((c) => s.softening_elements * c), ...none]),
            some([0, 0, s.simulator], [...none, ...none])];
  }

  function sampled(s, points) {
    const n = points.length, x = points.map((p) => place(s, p.composition, p.z)), d = x[0].length, k = new Float64Array(n * n);
    const g = points.map((p) => envelope(s, p.homologous)), u = points.map((p) => thermal(s, p.kelvin));
    const basis = points.map((p, i) => { // of the envelope's height
      const [one, soft, simulator] = shared(s, p.composition), power = p.simulated ** s.power;
      return one.map((v, b) => g[i] * (v + u[i] * soft[b] + power * simulator[b]));
    });
    const others = points.map((p, i) => p.several && [s.offset, ...p.composition.map((c) => s.offset_elements * c)].map((v) => g[i] * v));
    for (let i = 0; i < n; i++) {
      const noise = points[i].several ? s.several_noise : s.noise;
      for (let j = 0; j <= i; j++) {
        let distance = 0, common = 0;
        for (let q = 0; q < d; q++) distance += (x[i][q] - x[j][q]) ** 2;
        for (let b = 0; b < basis[i].length; b++) common += basis[i][b] * basis[j][b];
        if (others[i] && others[j]) for (let b = 0; b < others[i].length; b++) common += others[i][b] * others[j][b];
        const near = fast(s) * u[i] * u[j] + slow(s) * gaussian((points[i].kelvin - points[j].kelvin) / s.kelvins);
        k[i * n + j] = k[j * n + i] = common + g[i] * g[j] * Math.exp(-distance / 2) * near + (i === j ? noise ** 2 : 0);
      }
    }
    invert(k, n);
    const times = (v) => Float64Array.from(v, (_, i) => { let total = 0; for (let j = 0; j < n; j++) total += k[i * n + j] * v[j]; return total; });
    const dot = (a, b) => { let total = 0; for (let i = 0; i < n; i++) total += a[i] * b[i]; return total; };
    const alpha = times(points.map((p) => p.strength)), columns = basis[0].map((_, b) => basis.map((row) => row[b]));
    const solved = columns.map(times), inverse = Float32Array.from(k, (v, at) => v * g[Math.floor(at / n)] * g[at % n]);
    return { s, n, d, x: Float64Array.from(x.flat()), inverse, alpha: alpha.map((v, i) => g[i] * v),
             solved: solved.map((column) => column.map((v, i) => g[i] * v)),
             weights: columns.map((v) => dot(v, alpha)), gram: columns.map((a) => solved.map((b) => dot(a, b))) };
  }

  // What the covariance with the points has of the temperatures alone, for each sample of each expert: [temperatures, groups].
  function kernels(model, temperatures) {
    return model.experts.map((samples) => samples.map(({ s }) => {
      const G = model.kelvins.length, values = new Float64Array(temperatures.length * G), known = model.kelvins.map((T) => thermal(s, T));
      temperatures.forEach((T, t) => model.kelvins.forEach((other, q) => {
        values[t * G + q] = fast(s) * thermal(s, T) * known[q] + slow(s) * gaussian((T - other) / s.kelvins);
      }));
      return values;
    }));
  }

  // Mean and standard deviation (GPa) at temperatures, as of a new measurement.
  function strength(data, model, composition, temperatures, kernel = kernels(model, temperatures)) {
    const simulated = simulate(data, composition, temperatures).map((v) => Math.max(v, 1e-3)), z = standardised(data, composition);
    const [a, b] = model.experts.map((samples, e) => opinion(data, model, samples, kernel[e], composition, z, temperatures, simulated));
    const { weight, widening, secondWidening } = data.model, factor = widening ** 2 * (1 + risk(data, composition) * (secondWidening ** 2 - 1));
    return temperatures.map((_, t) => { // whoever is surer is heard more
      const sureB = weight / b[t].variance, q = sureB / (sureB + (1 - weight) / a[t].variance), apart = a[t].mean - b[t].mean;
      const variance = (1 - q) * a[t].variance + q * b[t].variance + q * (1 - q) * apart ** 2;
      return { mean: (1 - q) * a[t].mean + q * b[t].mean, std: Math.sqrt(factor * variance) };
    });
  }

  // What one expert says: the average over its samples.
  function opinion(data, model, samples, kernel, composition, z, temperatures, simulated) {
    const Tm = melting(data, composition), n = temperatures.length, G = model.kelvins.length;
    const means = new Float64Array(n), squares = new Float64Array(n), variances = new Float64Array(n);
    samples.forEach((sample, k) => {
      const { s } = sample, { weights, gram, prior, mean, quadratic, cross } = grouped(model, sample, composition, z), v = kernel[k];
      for (let t = 0; t < n; t++) {
        const T = temperatures[t], g = envelope(s, T / Tm), u = thermal(s, T), p = simulated[t] ** s.power, at = t * G;
        let value = weights[0] + u * weights[1] + p * weights[2];
        let explained = gram[0] + u * u * gram[3] + p * p * gram[5] + 2 * (u * gram[1] + p * gram[2] + u * p * gram[4]);
        for (let q = 0; q < G; q++) {
          const v_q = v[at + q];
          let others = cross[0][q] + u * cross[1][q] + p * cross[2][q] + v_q * quadratic[q * G + q] / 2;
          for (let r = 0; r < q; r++) others += v[at + r] * quadratic[q * G + r];
          value += v_q * mean[q];
          explained += 2 * v_q * others;
        }
        const before = prior[0] + u * u * prior[3] + p * p * prior[5] + 2 * (u * prior[1] + p * prior[2] + u * p * prior[4]) + fast(s) * u * u + slow(s);
        means[t] += g * value;
        squares[t] += (g * value) ** 2;
        variances[t] += g * g * Math.max(0, before - explained) + s.noise ** 2;
      }
    });
    const count = samples.length;
    return temperatures.map((_, t) => ({ mean: means[t] / count, variance: (variances[t] + squares[t]) / count - (means[t] / count) ** 2 }));
  }

  // The covariance of one alloy with the points: of what is shared, and of the neighbourhood summed over the points of each temperature.
  function grouped({ group, ends, kelvins }, { s, n, d, x, inverse, alpha, solved, weights, gram }, composition, z) {
    const w = new Float64Array(n), G = kelvins.length, here = place(s, composition, z), directions = shared(s, composition);
    const mean = new Float64Array(G), cross = directions.map(() => new Float64Array(G));
    const along = directions.map((direction) => { // K⁻¹ times what is shared
      const total = new Float64Array(n);
      direction.forEach((amount, b) => { if (amount) for (let i = 0; i < n; i++) total[i] += amount * solved[b][i]; });
      return total;
    });
    for (let i = 0; i < n; i++) {
      let distance = 0;
      for (let q = 0; q < d; q++) distance += (x[i * d + q] - here[q]) ** 2;
      w[i] = Math.exp(-distance / 2);
      mean[group[i]] += w[i] * alpha[i];
      for (let a = 0; a < 3; a++) cross[a][group[i]] += w[i] * along[a][i];
    }
    const dot = (a, b) => { let total = 0; for (let k = 0; k < a.length; k++) if (a[k]) total += a[k] * b[k]; return total; };
    const images = directions.map((a) => gram.map((line) => dot(a, line))), pairs = [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]];
    return { mean, quadratic: quadraticForm(inverse, w, ends), cross, weights: directions.map((a) => dot(a, weights)), gram: pairs.map(([a, b]) => dot(directions[b], images[a])),
             prior: pairs.map(([a, b]) => dot(directions[a], directions[b])) };
  }

  // wᵀ K⁻¹ w by groups, [groups, groups], below the diagonal: points are in the order of their groups.
  function quadraticForm(inverse, w, ends) {
    const n = w.length, G = ends.length, found = new Float64Array(G * G), image = new Float64Array(n);
    for (let own = 0, i = 0; own < G; own++) {
      image.fill(0);
      for (const end = ends[own]; i < end; i++) {
        for (let j = 0, at = i * n, scale = w[i]; j < end; j++) image[j] += scale * inverse[at + j];
      }
      for (let q = 0, j = 0; q <= own; q++) {
        let total = 0;
        for (const end = ends[q]; j < end; j++) total += image[j] * w[j];
        found[own * G + q] = total;
      }
    }
    return found;
  }

  // How likely an alloy is to have a second phase (chapter 31).
  function risk(data, composition) {
    const phases = data.model.phases, z = standardised(data, composition);
    return 1 / (1 + Math.exp(-phases.at(-1) - sum(z.map((v, k) => v * phases[k]))));
  }

  // How well the model knows an alloy at a temperature, in Python's words.
  function remark(data, composition, T) {
    const { relatives, coldest, hottest } = data.model, inputs = data.model.inputs.filter((_, i) => data.model.singlePhase[i]), percent = (share) => `${(100 * share).toFixed(0)}%`;
    const far = inputs.map((point) => sum(composition.map((c, i) => Math.abs(c - point[i]))) / 2), nearest = far.indexOf(Math.min(...far));
    const foreign = data.palette.filter((_, i) => composition[i] > 0 && !inputs.some((point) => point[i] > 0)), second = risk(data, composition);
    return [far[nearest] < 0.005 ? "measured itself" : `the nearest measured relative is ${relatives[nearest]}, ${percent(far[nearest])} of the atoms differ`,
            ...(foreign.length ? [`no measured alloy has ${foreign.join(" or ")}`] : []),
            ...(second > 0.5 ? [`a second phase is likely (${percent(second)})`] : []),
            ...(coldest - 25 <= T && T <= hottest + 25 ? [] : [`measured only from ${coldest} to ${hottest} K`])].join("; ");
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

  return { amounts, parse, formula, weights, fromWeights, density, melting, simulate, strengthParameters, descriptors, learn, readModel,
           kernels, strength, remark, readNetworks, predictAt, band };
})();

if (typeof module !== "undefined") module.exports = XYield;
