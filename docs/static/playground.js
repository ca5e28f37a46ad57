// The page on which one chooses an alloy; what it shows is computed by playground-models.js.
(function () {
  "use strict";

  const XY = XYield, FINE = 81, COARSE = 21, SLICE = 8; // temperatures of the curves; ms of a slice of longer work
  const DEFAULTS = { from: 250, to: 2000, at: 1273, units: "si", amounts: "at" }, FIRST = "MoNbTaTiW";
  const MODELS = ["ours", "simulator", "network"];
  const even = (from, to, n) => Array.from({ length: n }, (_, i) => from + (to - from) * i / (n - 1));
  const escaped = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const interval = ({ mean, std }) => ({ mean: Math.max(0, mean), low: Math.max(0, mean - 1.96 * std), high: mean + 1.96 * std });

  function start(root, data) {
    const $ = (name) => root.querySelector(`[data-part="${name}"]`), all = (selector) => [...root.querySelectorAll(selector)];
    const networks = XY.readNetworks(data), learning = XY.learn(data);
    let model = null; // ours, when it is ready
    const state = { ...DEFAULTS, a: null, b: null, edited: "a" }; // an alloy: its composition, and what was computed for it
    let grid = null; // temperatures and what depends on them alone

    // ---- units, at the edges only
    const metric = () => state.units === "si";
    const shownT = (kelvin) => metric() ? kelvin : kelvin - data.images.celsiusZero;
    const kelvinOf = (shown) => metric() ? shown : shown + data.images.celsiusZero;
    const degrees = (kelvin) => `${shownT(kelvin).toFixed(0)} ${metric() ? "K" : "°C"}`;
    const stress = (gpa, digits = 2) => metric() ? gpa.toFixed(digits) : (1000 * gpa).toFixed(0);
    const basis = (composition) => state.amounts === "at" ? composition : XY.weights(data, composition);
    const written = (composition) => XY.formula(data, basis(composition));

    const rows = data.palette.map((element) => {
      const label = document.createElement("label");
      label.innerHTML = `<span class="element">${element}</span><input type="range" min="0" max="100" step="1" value="0" ` +
        `aria-label="${element}" data-element="${element}"><output></output><output class="other"></output>`;
      $("sliders").append(label);
      const [output, other] = label.querySelectorAll("output");
      return { input: label.querySelector("input"), output, other };
    });
    const alloys = [...new Set(data.measured.map((p) => p.formula))];
    $("alloys").append(...alloys.map((f) => new Option(f.replace(/([A-Z][a-z]?)1(?=\s|$)/g, "$1").replace(/ /g, ""), f)));

    // ---- what is computed, for the alloy that changed
    function temperatures() {
      const fine = even(state.from, state.to, FINE), coarse = even(state.from, state.to, COARSE), wanted = [...fine, state.at];
      return { fine, coarse, wanted, kernel: XY.kernels(model, wanted) };
    }

    function computed(alloy) {
      const { composition } = alloy, ours = XY.strength(data, model, composition, grid.wanted, grid.kernel).map(interval);
      const simulated = XY.simulate(data, composition, grid.wanted);
      const system = data.palette.filter((_, i) => composition[i] > 0).join("-");
      const points = data.measured.filter((p) => p.system === system);
      const same = (p) => p.composition.every((c, i) => Math.abs(c - composition[i]) < 0.006);
      return Object.assign(alloy, { grid, system, points, same, ours: ours.slice(0, FINE), oursAt: ours[FINE],
                                    simulated: simulated.slice(0, FINE), simulatedAt: simulated[FINE], network: null, networkAt: null });
    }

    const chosen = () => ["a", "b"].filter((name) => state[name]).map((name) => [name, state[name]]);

    function draw() {
      if (!model) return;
      const began = performance.now();
      grid ??= temperatures();
      for (const [, alloy] of chosen()) if (alloy.grid !== grid) computed(alloy);
      show();
      performance.measure("playground", { start: began });
      think();
    }

    // The networks take longer: they work in slices, and their curve follows.
    let thinking = null;
    function think() {
      clearTimeout(thinking);
      const alloy = chosen().map(([, found]) => found).find((found) => !found.network);
      if (!alloy) return;
      const wanted = [...grid.coarse, state.at], found = [], at = grid;
      function slice() {
        const began = performance.now();
        if (at !== grid || alloy.network) return;
        while (found.length < wanted.length && performance.now() - began < SLICE) {
          found.push(XY.band(data, XY.predictAt(data, networks, alloy.composition, wanted[found.length])));
        }
        if (found.length < wanted.length) {
          thinking = setTimeout(slice);
        } else {
          alloy.network = found.slice(0, COARSE);
          alloy.networkAt = found[COARSE];
          show();
          think();
        }
        performance.measure("playground-network", { start: began });
      }
      thinking = setTimeout(slice);
    }

    // ---- what is shown
    function show() {
      const edited = state[state.edited], atomic = edited.composition, byWeight = XY.weights(data, atomic), by = state.amounts === "at";
      rows.forEach(({ input, output, other }, i) => {
        const percent = 100 * (by ? atomic : byWeight)[i], rest = 100 * (by ? byWeight : atomic)[i];
        if (document.activeElement !== input || Math.abs(input.value - percent) >= 1) input.value = percent;
        output.textContent = percent.toFixed(1);
        other.textContent = rest.toFixed(1);
        input.setAttribute("aria-valuetext", `${percent.toFixed(1)} ${by ? "atomic" : "weight"} percent`);
      });
      $("percent").textContent = by ? "at. %" : "wt. %";
      $("percent-other").textContent = by ? "wt. %" : "at. %";
      $("formula").textContent = `${state.b ? state.edited.toUpperCase() + ": " : ""}${written(atomic)}`;
      $("at-value").textContent = degrees(state.at);
      const visible = Object.fromEntries(MODELS.map((m) => [m, $(`show-${m}`).checked]));
      plot($("plot"), { ...state, grid, alloys: chosen(), visible, metric: metric(), shownT, kelvinOf });
      $("readings").innerHTML = chosen().map(([name, alloy]) => reading(name, alloy)).join("");
      $("stress").textContent = metric() ? "GPa" : "MPa";
      $("warnings").innerHTML = chosen().flatMap(([name, alloy]) => notes(name, alloy)).map((text) => `<li>${escaped(text)}</li>`).join("");
      if ($("points").open) sources();
      $("count").textContent = chosen().map(([, alloy]) => alloy).filter((a, i, both) => !i || a.system !== both[0].system)
        .map(({ points, system }) => `${points.length} of ${system}`).join(", ");
    }

    function reading(name, { composition, oursAt, simulatedAt, networkAt }) {
      const band = networkAt ? `${stress(Math.max(0, networkAt.mean))} ± ${stress(2 * networkAt.std)}` : "…";
      return `<tr data-alloy="${name}"><th scope="row">${state.b ? `<span class="${name}">${name.toUpperCase()}</span> ` : ""}${XY.formula(data, composition)}</th>` +
        `<td data-value="ours"><strong>${stress(oursAt.mean)}</strong> (${stress(oursAt.low)}–${stress(oursAt.high)})</td>` +
        `<td data-value="simulator">${stress(simulatedAt)}</td><td data-value="network">${band}</td>` +
        `<td>${XY.density(data, composition).toFixed(2)}</td><td>${degrees(XY.melting(data, composition))}</td></tr>`;
    }

    function notes(name, { composition, points, same, system }) {
      const who = state.b ? `${name.toUpperCase()}: ` : "", remark = XY.remark(data, composition, state.at);
      const Tm = XY.melting(data, composition), here = points.filter(same).length;
      return [`${who}${remark}.`,
              ...(points.length ? [] : [`${who}no alloy of ${system} was measured: simulator and networks extrapolate, and their curves do not know it.`]),
              ...(points.length && !here ? [`${who}${system} was measured, this alloy was not.`] : []),
              ...(state.at >= Tm ? [`${who}${degrees(state.at)} is above its melting point by the rule of mixtures, ${degrees(Tm)}.`] : [])];
    }

    function sources() {
      const seen = new Set(), points = chosen().flatMap(([, { points }]) => points).filter((p) => !seen.has(p) && seen.add(p));
      $("points").querySelector("tbody").innerHTML = points.map((p) => `<tr><th scope="row">${p.formula.replace(/([A-Z][a-z]?)1(?=\s|$)/g, "$1").replace(/ /g, "")}</th>` +
        `<td>${degrees(p.temperature)}</td><td>${stress(p.strength, 3)}</td><td>${p.repeats}</td>` +
        `<td>${p.dois.map((doi) => `<a href="https://doi.org/${encodeURI(doi)}">${escaped(doi)}</a>`).join(" ")}</td></tr>`).join("");
    }

    // ---- what is chosen
    let pending = false, saving = null;
    function changed({ alloys, temperature } = {}) {
      if (temperature) grid = null;
      for (const name of alloys || []) if (state[name]) state[name].grid = null;
      clearTimeout(saving);
      saving = setTimeout(save, 250);
      if (pending) return;
      pending = true;
      requestAnimationFrame(() => { pending = false; draw(); });
    }

    const place = (composition) => XY.formula(data, composition, 4);
    function save() {
      const extra = Object.keys(DEFAULTS).filter((k) => state[k] !== DEFAULTS[k])
        .map((k) => `${k}=${typeof state[k] === "number" ? Number(state[k].toFixed(2)) : state[k]}`);
      const wanted = [place(state.a.composition), ...(state.b ? [`b=${place(state.b.composition)}`] : []), ...extra].join("&");
      if (location.hash !== `#${wanted}`) history.replaceState(null, "", `#${wanted}`);
    }

    const say = (text) => { $("message").textContent = text; };
    const fill = (name) => { $(`text-${name}`).value = state[name] ? written(state[name].composition) : ""; };

    function set(name, composition) {
      state[name] = composition && { composition };
      if (!state[state.edited]) state.edited = "a";
      root.dataset.two = state.b ? "yes" : "no";
      all('[name="edited"]').forEach((radio) => { radio.checked = radio.value === state.edited; });
      before = null;
    }

    function type(name, text) {
      if (name === "b" && !text.trim()) {
        set("b", null);
      } else {
        const found = XY.parse(data, text, state.amounts === "wt");
        if (found.error) { say(found.error); return; }
        state.edited = name;
        set(name, found.composition);
      }
      say("");
      changed();
    }

    // A slider says percent: the other elements keep their ratio, as it was when it was taken hold of.
    let before = null;
    function slide(i, percent) {
      const alloy = state[state.edited];
      before ??= { i, shares: basis(alloy.composition) };
      const rest = 1 - before.shares[i], shares = before.shares.map((v, j) => (j === i ? percent / 100 : rest > 1e-9 ? v / rest * (1 - percent / 100) : 0));
      if (rest <= 1e-9 && percent < 100) { say("A single element is 100 %: add another one."); changed(); return; }
      say("");
      const total = shares.reduce((a, b) => a + b), kept = before;
      set(state.edited, state.amounts === "at" ? shares.map((v) => v / total) : XY.fromWeights(data, shares));
      before = kept;
      fill(state.edited);
      changed();
    }

    // The address names alloys and what differs from the defaults; what it says that cannot be is said, and left out.
    function restore() {
      const wrong = [], [first, ...rest] = location.hash.slice(1).split("&").map((part) => {
        try { return decodeURIComponent(part); } catch { wrong.push(`“${part}” is not text`); return ""; }
      });
      const named = new Map(rest.filter(Boolean).map((part) => part.split(/=(.*)/s)));
      Object.assign(state, DEFAULTS);
      for (const [key, value] of named) {
        if (key === "b") continue;
        if (!(key in DEFAULTS)) { wrong.push(`“${key}” is none of b, ${Object.keys(DEFAULTS).join(", ")}`); continue; }
        if (key === "units" || key === "amounts") {
          const options = [...$(key).options].map((o) => o.value);
          if (options.includes(value)) state[key] = value; else wrong.push(`${key} is “${value}”; expected ${options.join(" or ")}`);
        } else {
          const [low, high] = data.temperatureRange, kelvin = Number(value);
          if (value && kelvin >= low && kelvin <= high) state[key] = kelvin; else wrong.push(`${key} is “${value}”; expected ${low} to ${high} K`);
        }
      }
      if (state.to - state.from < 50) { wrong.push(`from ${state.from} to ${state.to} K is too short a range`); Object.assign(state, { from: DEFAULTS.from, to: DEFAULTS.to }); }
      const read = (text) => {
        const found = XY.parse(data, text);
        if (found.error) wrong.push(found.error);
        return found.composition;
      };
      state.edited = "a";
      set("a", (first && read(first)) || XY.parse(data, FIRST).composition);
      set("b", (named.get("b") && read(named.get("b"))) || null);
      controls();
      say(wrong.length ? `The address cannot be read in full: ${wrong.join("; ")}.` : "");
      changed({ alloys: ["a", "b"], temperature: true });
    }

    function controls() {
      for (const name of ["a", "b"]) fill(name);
      for (const name of ["units", "amounts"]) $(name).value = state[name];
      const [low, high] = data.temperatureRange;
      for (const name of ["from", "to", "at"]) {
        Object.assign($(name), { min: Math.ceil(shownT(low)), max: Math.floor(shownT(high)) });
        $(name).value = Math.round(shownT(state[name]));
      }
      Object.assign($("at"), { min: Math.ceil(shownT(state.from)), max: Math.floor(shownT(state.to)) });
      all(".unit-t").forEach((span) => { span.textContent = metric() ? "K" : "°C"; });
    }

    function temperature(name) {
      const [low, high] = data.temperatureRange, value = kelvinOf(Number($(name).value));
      if (!(value >= low && value <= high)) { say(`${name} is ${$(name).value}; expected ${degrees(low)} to ${degrees(high)}`); return; }
      const next = { from: state.from, to: state.to, at: state.at, [name]: value };
      if (next.to - next.from < 50) { say("The range of temperatures has to be 50 K or more."); return; }
      Object.assign(state, next, { at: Math.min(next.to, Math.max(next.from, next.at)) });
      say("");
      Object.assign($("at"), { min: Math.ceil(shownT(state.from)), max: Math.floor(shownT(state.to)) });
      if (name !== "at") $("at").value = Math.round(shownT(state.at));
      changed({ temperature: true });
    }

    rows.forEach(({ input }, i) => {
      input.addEventListener("input", () => {
        if (before && before.i !== i) before = null;
        slide(i, Number(input.value));
      });
      input.addEventListener("change", () => { before = null; });
    });
    for (const name of ["from", "to"]) $(name).addEventListener("change", () => temperature(name));
    $("at").addEventListener("input", () => temperature("at"));
    for (const name of ["units", "amounts"]) {
      $(name).addEventListener("change", () => { state[name] = $(name).value; before = null; controls(); changed(); });
    }
    for (const name of ["a", "b"]) $(`text-${name}`).addEventListener("change", (event) => type(name, event.target.value));
    $("alloys").addEventListener("change", (event) => {
      const found = event.target.value && XY.parse(data, event.target.value);
      if (!found) return;
      set(state.edited, found.composition);
      fill(state.edited);
      say("");
      changed();
    });
    all('[name="edited"]').forEach((radio) => radio.addEventListener("change", () => {
      state.edited = radio.value;
      if (!state[radio.value]) set(radio.value, state.a.composition);
      fill(radio.value);
      set(radio.value, state[radio.value].composition);
      changed();
    }));
    for (const name of MODELS) $(`show-${name}`).addEventListener("change", () => changed());
    $("points").addEventListener("toggle", () => $("points").open && sources());
    $("csv").addEventListener("click", () => save_as("csv", new Blob([csv()], { type: "text/csv" })));
    $("png").addEventListener("click", async () => save_as("png", await png($("plot"))));
    addEventListener("hashchange", restore);

    // ---- to take along, in K and GPa
    function csv() {
      const lines = ["alloy,temperature_K,our_model_GPa,our_model_from_GPa,our_model_to_GPa,simulator_GPa,network_GPa,network_std_GPa"];
      for (const [, { composition }] of chosen()) {
        const ours = XY.strength(data, model, composition, grid.coarse).map(interval), simulated = XY.simulate(data, composition, grid.coarse);
        grid.coarse.forEach((T, i) => {
          const network = XY.band(data, XY.predictAt(data, networks, composition, T));
          const numbers = [ours[i].mean, ours[i].low, ours[i].high, simulated[i], network.mean, network.std];
          lines.push([XY.formula(data, composition), +T.toFixed(2), ...numbers.map((v) => v.toFixed(4))].join());
        });
      }
      return lines.join("\n") + "\n";
    }

    function save_as(extension, blob) {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${chosen().map(([, { composition }]) => XY.formula(data, composition)).join("-and-")}.${extension}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }

    function learn() {
      const began = performance.now();
      let step = learning.next();
      while (!step.done && performance.now() - began < SLICE) step = learning.next();
      if (!step.done) { setTimeout(learn); return; }
      model = step.value;
      draw();
      root.dataset.ready = "yes";
    }

    restore();
    learn();
  }

  // The plot as a picture: the style sheet's colours are written into a copy first.
  async function png(svg, scale = 2) {
    const copy = svg.cloneNode(true), [, , W, H] = svg.getAttribute("viewBox").split(" ").map(Number);
    const ground = getComputedStyle(document.body).backgroundColor, from = svg.querySelectorAll("*"), to = copy.querySelectorAll("*");
    from.forEach((element, i) => {
      const style = getComputedStyle(element);
      for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity"]) to[i].style.setProperty(name, style.getPropertyValue(name));
    });
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    Object.assign(copy.style, { fontFamily: "sans-serif", fontSize: "15px" });
    Object.entries({ width: W * scale, height: H * scale }).forEach(([name, value]) => copy.setAttribute(name, value));
    const image = new Image(), canvas = document.createElement("canvas");
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(copy));
    await image.decode();
    Object.assign(canvas, { width: W * scale, height: H * scale });
    const context = canvas.getContext("2d");
    context.fillStyle = ground;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  function plot(svg, { from, to, at, grid, alloys, visible, metric, shownT, kelvinOf }) {
    const W = 720, H = 420, left = 78, right = 26, top = 12, bottom = 52, factor = metric ? 1 : 1000;
    const inside = (p) => p.temperature >= from && p.temperature <= to;
    const highest = Math.max(0.5, ...alloys.flatMap(([, a]) => [
      ...(visible.ours ? a.ours.map((p) => p.high) : []), ...(visible.simulator ? a.simulated : []),
      ...(visible.network && a.network ? a.network.map((p) => p.mean + 2 * p.std) : []), ...a.points.filter(inside).map((p) => p.strength)]));
    const step = [0.1, 0.25, 0.5, 1, 2].find((s) => highest / s <= 7) || 5, high = Math.ceil(highest / step) * step;
    const x = (T) => left + (T - from) / (to - from) * (W - left - right);
    const y = (s) => H - bottom - Math.max(0, s) / high * (H - top - bottom);
    const line = (T, v) => T.map((t, i) => `${i ? "L" : "M"}${x(t).toFixed(1)},${y(v[i]).toFixed(1)}`).join("");
    const area = (T, low, high) => line(T, high) + line([...T].reverse(), [...low].reverse()).replace("M", "L") + "Z";
    const out = [];
    for (let s = 0; s <= high + 1e-9; s += step) {
      out.push(`<line class="grid" x1="${left}" x2="${W - right}" y1="${y(s)}" y2="${y(s)}"/>` +
        `<text x="${left - 8}" y="${y(s) + 4}" text-anchor="end">${+(s * factor).toFixed(2)}</text>`);
    }
    const tick = [50, 100, 200, 250, 500].find((t) => (to - from) / t <= 8) || 1000;
    for (let shown = Math.ceil(shownT(from) / tick) * tick; shown <= shownT(to); shown += tick) {
      const at = x(kelvinOf(shown));
      out.push(`<line class="tick" x1="${at}" x2="${at}" y1="${H - bottom}" y2="${H - bottom + 5}"/>` +
        `<text x="${at}" y="${H - bottom + 19}" text-anchor="middle">${shown}</text>`);
    }
    out.push(`<text x="${(left + W - right) / 2}" y="${H - 6}" text-anchor="middle">temperature (${metric ? "K" : "°C"})</text>`);
    out.push(`<text transform="translate(18,${(H - bottom + top) / 2}) rotate(-90)" text-anchor="middle">yield strength (${metric ? "GPa" : "MPa"})</text>`);
    out.push(`<line class="at" x1="${x(at)}" x2="${x(at)}" y1="${top}" y2="${H - bottom}"/>`);
    for (const [name, a] of alloys) {
      if (visible.network && a.network && alloys.length === 1) {
        out.push(`<path class="network band ${name}" d="${area(grid.coarse, a.network.map((p) => p.mean - 2 * p.std), a.network.map((p) => p.mean + 2 * p.std))}"/>`);
      }
      if (visible.ours) out.push(`<path class="ours band ${name}" d="${area(grid.fine, a.ours.map((p) => p.low), a.ours.map((p) => p.high))}"/>`);
      if (visible.network && a.network) out.push(`<path class="network ${name}" d="${line(grid.coarse, a.network.map((p) => p.mean))}"/>`);
      if (visible.simulator) out.push(`<path class="simulator ${name}" d="${line(grid.fine, a.simulated)}"/>`);
      if (visible.ours) out.push(`<path class="ours ${name}" d="${line(grid.fine, a.ours.map((p) => p.mean))}"/>`);
    }
    for (const [name, a] of [...alloys].reverse()) {
      for (const p of a.points.filter(inside).sort((p, q) => a.same(p) - a.same(q))) {
        const cx = x(p.temperature), cy = y(p.strength), kind = a.same(p) ? "measured" : "related";
        const shape = name === "a" ? `<circle class="${kind} a" r="5" cx="${cx}" cy="${cy}">` : `<path class="point ${kind} b" d="M${cx - 6},${cy}l6,-6l6,6l-6,6Z">`;
        out.push(`${shape}<title>${p.formula}: ${(p.strength * factor).toFixed(metric ? 3 : 0)} ${metric ? "GPa" : "MPa"} at ${shownT(p.temperature).toFixed(0)} ` +
          `${metric ? "K" : "°C"} (${p.repeats} measurement${p.repeats > 1 ? "s" : ""}), doi ${escaped(p.dois.join(", "))}</title></${name === "a" ? "circle" : "path"}>`);
      }
    }
    svg.innerHTML = out.join("");
  }

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.getElementById("playground");
    if (root) start(root, XYIELD_DATA);
  });
})();
