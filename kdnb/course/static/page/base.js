// Drawing and controls for all components. `base.js` comes first and `start.js` last; between them
// comes a file for each component, which computes from the data beside it in the page.

const SVG = "http://www.w3.org/2000/svg";
// At least 3:1 against the page, light and dark.
const BLUE = "#0173b2", ORANGE = "#c27c0e", GREEN = "#029e73";

const softmax = (logits, temperature) => {
  const top = Math.max(...logits);
  const raised = logits.map((z) => Math.exp((z - top) / temperature));
  const sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((v) => v / sum);
};

const entropyBits = (p) => -p.reduce((sum, v) => (v > 0 ? sum + v * Math.log2(v) : sum), 0);

const element = (name, attributes = {}, ...children) => {
  const made = name === "svg" || attributes.svg
    ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key !== "svg") made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};

// As kdnb.course.labels: names cut to a length at which they stay distinct.
const shortened = (names, longest = 12) => {
  const letters = names.map((name) => [...name]), half = longest / 2;
  const ways = [
    (all) => (all.length > longest ? [...all.slice(0, longest - 1), "\u2026"] : all),
    (all) => (all.length > longest ? [...all.slice(0, half), "\u2026", ...all.slice(1 - half)] : all),
    (all, i) => [...all.slice(0, half), `\u2026 (${i})`],
  ];
  let made = names.map(() => "");
  for (const way of ways) {
    const often = new Map();
    for (const name of made) often.set(name, (often.get(name) ?? 0) + 1);
    made = made.map((name, i) => (name && often.get(name) === 1 ? name : way(letters[i], i).join("")));
  }
  return made;
};

// As kdnb.course.figures.top_classes: the classes with the largest scores, and all others as one.
const topClasses = (scores, always, most = 12) => {
  const all = scores.map((_, i) => i);
  if (all.length <= most) return { rows: all, of: (values) => values, names: (names) => names };
  const first = (i) => (i === always ? Infinity : scores[i]);
  const rows = [...all].sort((a, b) => first(b) - first(a)).slice(0, most - 1).sort((a, b) => a - b);
  const others = all.filter((i) => !rows.includes(i));
  return {
    rows,
    of: (values) => [...rows.map((i) => values[i]), others.reduce((sum, i) => sum + values[i], 0)],
    names: (names) => [...rows.map((i) => names[i]), `${others.length.toLocaleString("en")} others`],
  };
};

// A key of pairs (SVG element, name), drawn as in the chart; the element fits -8 to 8 both ways.
const keyOf = (entries, about = "") => element("p", { class: "note key" }, about && `${about}: `, ...entries.map(
  ([mark, name]) => element("span", {}, element("svg", { viewBox: "-8 -8 16 16", class: "mark", "aria-hidden": "true" }, mark), name)));

const swatch = (look) => element("rect", { svg: 1, x: -7, y: -7, width: 14, height: 14, ...look });

// The looks of two series side by side, which differ by more than their colour.
const filled = (fill) => ({ fill });
const hollow = (fill) => ({ fill, "fill-opacity": 0.2, stroke: fill, "stroke-width": 2 });
const OUTLINE = { class: "outline" };

// Bars side by side for each name. A series is {values, look}, where ``look`` of a bar's number are
// attributes, and {values, outline}; values may be negative.
// For probabilities the axis ends at 1, so that a bar's height means the same at any T.
const bars = (names, series, describe, ceiling = 0) => {
  const step = 40, height = 150, room = step - 8;
  const all = series.flatMap((one) => one.values);
  const high = Math.max(...all, ceiling), low = Math.min(...all, 0);
  const scale = height / (high - low || 1), zero = scale * high;
  const solid = series.filter((one) => !one.outline);
  const parts = [];
  for (const one of series) {
    const place = Math.max(0, solid.indexOf(one));
    const width = one.outline ? room : room / solid.length;
    one.values.forEach((value, i) => parts.push(element("rect", {
      svg: 1, x: i * step + 4 + place * width * !one.outline, width,
      y: zero - scale * Math.max(value, 0), height: scale * Math.abs(value),
      ...(one.outline ? OUTLINE : one.look(i)),
    })));
  }
  parts.push(element("line", { svg: 1, x1: 0, x2: step * names.length, y1: zero, y2: zero }));
  // Names wider than a bar, at about 8 pixels for each letter, are slanted.
  const longest = Math.max(...names.map((name) => name.length));
  const aslant = longest > 4, left = aslant ? Math.max(0, 6.5 * longest - 20) : 0;
  names.forEach((name, i) => {
    const x = (i + 0.5) * step, y = height + 16;
    const place = aslant ? { "text-anchor": "end", transform: `rotate(-35 ${x} ${y})` } : { "text-anchor": "middle" };
    parts.push(element("text", { svg: 1, x, y, ...place }, name));
  });
  const box = `${-2 - left} -2 ${step * names.length + 4 + left} ${height + 24 + (aslant ? 4.6 * longest : 0)}`;
  return element("svg", { viewBox: box, role: "img", "aria-label": describe }, ...parts);
};

// Controls with `data-state` are in the address under this name, see state.js.
const range = (start, lowest, highest, step, attributes) => element(
  "input", { type: "range", min: lowest, max: highest, step, value: start, ...attributes });

const menu = (state, names) => element(
  "select", { "data-state": state }, ...names.map((name) => element("option", {}, name)));

const table = (names, body) => element("details", {}, element("summary", {}, "the numbers"),
  element("div", { class: "scroll", "data-what": "table" },
    element("table", {}, element("thead", {}, element("tr", {}, ...names.map(
      (name) => element("th", { scope: "col" }, name)))), body)));

const row = (name, values) => element("tr", {}, element("th", { scope: "row" }, name),
  ...values.map((value) => element("td", {}, Number.isInteger(value) ? `${value}` : value.toFixed(5))));

// A slider over the logarithm of the temperature, its value and its label.
const temperatureSlider = (data) => {
  const slider = range(Math.log2(data.temperature), Math.log2(data.lowest), Math.log2(data.highest), 0.125,
    { "data-state": "T", "data-scale": "log2" });
  const reading = element("output");
  const read = () => {
    const t = 2 ** Number(slider.value);
    reading.textContent = `T = ${t.toPrecision(3)}`;
    slider.setAttribute("aria-valuetext", reading.textContent);
    return t;
  };
  return { slider, read, label: element("span", {}, element("label", {}, "temperature ", slider), reading) };
};

// By name: functions that turn a component's data into the elements that show them.
const COMPONENTS = {};
