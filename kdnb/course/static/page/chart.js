// Points with intervals and the lines between them, as SVG.

const SERIES = [BLUE, ORANGE, GREEN, "#d55e00", "#cc78bc", "#ca9161", "#56b4e9"];
// Outlines of the marks, so that series differ by more than colour.
const MARKS = ["M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0", "M-4.5 -4.5h9v9h-9z", "M0 -6l6 10h-12z",
  "M0 -6.5l5.5 6.5l-5.5 6.5l-5.5 -6.5z", "M0 6l6 -10h-12z", "M-6 0l12 0M0 -6l0 12"];

const logarithm = Math.log10;
const itself = (v) => v;

// About five to seven round numbers between two values.
const ticks = (from, to, log) => {
  const found = [];
  if (log) {
    for (let power = 10 ** Math.floor(logarithm(from)); power <= to; power *= 10) {
      found.push(...[1, 2, 5].map((m) => m * power).filter((v) => v >= from && v <= to));
    }
    return found.length > 7 ? found.filter((v) => Number.isInteger(+logarithm(v).toFixed(9))) : found;
  }
  const rough = (to - from) / 7, power = 10 ** Math.floor(logarithm(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to * (1 + 1e-9); i++) found.push(i * step || 0);  // not -0
  return found;
};

const short = (v) => v.toLocaleString("en", { maximumSignificantDigits: 4 });

// A series is {name, points: [{x, y, low, high, mark}]}, where all but x and y may be left out, and
// ``mark`` false leaves out a point's mark. A series may have ``line`` false, be ``faint``, and have
// the colour and mark of the place ``as``. An axis is {name, from, to, log}. ``limit`` shades the
// area to its right, ``rings`` are points with a ring, ``diagonal`` draws y = x; the key names each,
// and the intervals as ``ends``, as in ``named``.
const xyChart = (series, x, y, describe, { limit, rings = [], diagonal, named = {} } = {}) => {
  const width = 560, height = 280, left = 52, bottom = 40, edge = width - 20;
  const scaled = (axis, start, end) => {
    const f = axis.log ? logarithm : itself;
    const from = f(axis.from), to = f(axis.to);
    return (v) => start + (end - start) * (f(v) - from) / (to - from || 1);
  };
  // Leave a mark's width free above and below, and half a number beside the axis.
  const right = scaled(x, left, edge), up = scaled(y, height - bottom - 6, 14);
  const parts = [];
  const draw = (name, attributes, ...text) => parts.push(element(name, { svg: 1, ...attributes }, ...text));
  const line = (x1, y1, x2, y2, attributes = {}) => draw("line", { x1, y1, x2, y2, ...attributes });
  for (const v of ticks(x.from, x.to, x.log)) {
    line(right(v), 8, right(v), height - bottom, { class: "grid" });
    draw("text", { x: right(v), y: height - bottom + 16, "text-anchor": "middle" }, short(v));
  }
  for (const v of ticks(y.from, y.to, y.log)) {
    line(left, up(v), edge, up(v), { class: "grid" });
    draw("text", { x: left - 6, y: up(v) + 5, "text-anchor": "end" }, short(v));
  }
  line(left, height - bottom, edge, height - bottom);
  draw("text", { x: (left + edge) / 2, y: height - 4, "text-anchor": "middle" }, x.name);
  if (limit !== undefined && limit < x.to) {
    draw("rect", { class: "beyond", x: right(limit), y: 8, width: edge - right(limit), height: height - bottom - 8 });
  }
  if (diagonal) line(right(x.from), up(x.from), right(x.to), up(x.to), { class: "outline" });
  const look = (one, i) => {
    const place = one.as ?? i, colour = SERIES[place % SERIES.length];
    return { colour, d: MARKS[place % MARKS.length], faint: one.faint ? { class: "faint" } : {} };
  };
  series.forEach((one, i) => {
    const { colour, d, faint } = look(one, i);
    if (one.line !== false) {
      draw("polyline", { ...faint, points: one.points.map((p) => `${right(p.x)},${up(p.y)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 1.5 });
    }
    for (const p of one.points) {
      if (p.low !== undefined) line(right(p.x), up(p.low), right(p.x), up(p.high), { style: `stroke: ${colour}; stroke-width: 1.5` });
      if (p.mark !== false) draw("path", { ...faint, d, transform: `translate(${right(p.x)} ${up(p.y)})`, fill: colour, stroke: colour });
    }
  });
  for (const p of rings) draw("circle", { class: "ring", cx: right(p.x), cy: up(p.y), r: 10 });
  const key = series.map((one, i) => {
    const { colour, d, faint } = look(one, i);
    return [element("path", { svg: 1, ...faint, d, fill: colour, stroke: colour }), one.name];
  });
  const shape = (name, attributes) => element(name, { svg: 1, ...attributes });
  const others = {
    ends: shape("line", { x1: 0, x2: 0, y1: -8, y2: 8, "stroke-width": 2 }),
    diagonal: shape("line", { x1: -8, x2: 8, y1: 8, y2: -8, class: "outline" }),
    rings: shape("circle", { r: 7, class: "ring" }),
    limit: swatch({ class: "beyond" }),
  };
  return [
    keyOf([...key, ...Object.entries(named).map(([what, name]) => [others[what], name])], y.name),
    element("svg", { viewBox: `0 0 ${width} ${height}`, class: "wide", role: "img", "aria-label": describe }, ...parts),
  ];
};

// Float32 numbers from base64.
const unpacked = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
