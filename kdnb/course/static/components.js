"use strict";
// What a reader can move in the report. Each component computes from the data beside it and takes
// the place of the picture that stands there where scripts may not run.

const SVG = "http://www.w3.org/2000/svg";
const BLUE = "#0173b2", ORANGE = "#de8f05", GREEN = "#029e73";

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

// Bars side by side for each name. A series is {values, fill, outline}; values may be negative.
// Probabilities have their ceiling at 1, so that the height of a bar means the same at any T.
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
      ...(one.outline ? { class: "outline" } : { fill: one.fill(i) }),
    })));
  }
  parts.push(element("line", { svg: 1, x1: 0, x2: step * names.length, y1: zero, y2: zero }));
  names.forEach((name, i) => parts.push(element("text", {
    svg: 1, x: (i + 0.5) * step, y: height + 16, "text-anchor": "middle",
  }, name)));
  const box = `-2 -2 ${step * names.length + 4} ${height + 24}`;
  return element("svg", { viewBox: box, role: "img", "aria-label": describe }, ...parts);
};

const range = (start, lowest, highest, step) => element(
  "input", { type: "range", min: lowest, max: highest, step, value: start });

const table = (names, body) => element("details", {}, element("summary", {}, "the numbers"),
  element("table", {}, element("thead", {}, element("tr", {}, ...names.map(
    (name) => element("th", { scope: "col" }, name)))), body));

const row = (name, values) => element("tr", {}, element("th", { scope: "row" }, name),
  ...values.map((value) => element("td", {}, value.toFixed(5))));

// A slider over the logarithm of the temperature, what it stands at, and its label.
const temperatureSlider = (data) => {
  const slider = range(Math.log2(data.temperature), Math.log2(data.lowest), Math.log2(data.highest), 0.125);
  const reading = element("output");
  const read = () => {
    const t = 2 ** Number(slider.value);
    reading.textContent = `T = ${t.toPrecision(3)}`;
    slider.setAttribute("aria-valuetext", reading.textContent);
    return t;
  };
  return { slider, read, label: element("span", {}, element("label", {}, "temperature ", slider), reading) };
};

// The teacher's answer to an image, softened by a temperature.
const temperature = (data) => {
  const picture = element("img", { class: "pixels" });
  const chart = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const choice = element("select", {}, ...data.images.map((image) => element("option", {}, image.name)));
  const { slider, read, label } = temperatureSlider(data);

  const draw = () => {
    const image = data.images[choice.selectedIndex], t = read();
    const plain = softmax(image.logits, 1), soft = softmax(image.logits, t);
    const top = soft.indexOf(Math.max(...soft));
    picture.src = image.png;
    picture.alt = `${image.name}, as the teacher sees it`;
    says.textContent = `At T = ${t.toPrecision(3)} the answer holds ${entropyBits(soft).toFixed(2)} bits; `
      + `${(100 * (1 - soft[top])).toFixed(1)} % lie outside ${data.classes[top]}. Dashed: T = 1.`;
    chart.replaceChildren(bars(data.classes, [
      { values: soft, fill: (i) => (i === top ? BLUE : ORANGE) }, { values: plain, outline: true },
    ], says.textContent, 1));
    numbers.replaceChildren(...data.classes.map((name, i) => row(name, [plain[i], soft[i]])));
  };
  choice.addEventListener("change", draw);
  slider.addEventListener("input", draw);
  draw();
  return [
    element("div", { class: "controls" }, element("label", {}, "image ", choice), label),
    element("div", { class: "side" }, picture, chart), says,
    table(["class", "at T = 1", "at this T"], numbers),
  ];
};

// How the two parts of the distillation loss push each logit of a student.
const loss = (data) => {
  const probabilities = element("div", { class: "chart" }), pushes = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const { slider, read, label } = temperatureSlider(data);
  const weight = range(data.soft_weight, 0, 1, 0.05), weighs = element("output");

  const draw = () => {
    const t = read(), w = Number(weight.value);
    weighs.textContent = w.toFixed(2);
    const teacher = softmax(data.teacher, t), student = softmax(data.student, t);
    const now = softmax(data.student, 1);
    const soft = teacher.map((p, i) => w * t * (p - student[i]));
    const hard = now.map((p, i) => (1 - w) * ((i === data.label) - p));
    const kl = teacher.reduce((sum, p, i) => (p > 0 ? sum + p * Math.log(p / student[i]) : sum), 0);
    const parts = { soft: t * t * kl, hard: -Math.log(now[data.label]) };
    says.textContent = `Label ${data.classes[data.label]}, T = ${t.toPrecision(3)}, soft_weight ${w.toFixed(2)}: `
      + `loss ${(w * parts.soft + (1 - w) * parts.hard).toFixed(3)} nats `
      + `(soft ${parts.soft.toFixed(3)}, hard ${parts.hard.toFixed(3)}).`;
    probabilities.replaceChildren(bars(data.classes, [
      { values: teacher, fill: () => BLUE }, { values: student, fill: () => ORANGE },
    ], `Probabilities at this T of teacher (left bars) and student. ${says.textContent}`, 1));
    pushes.replaceChildren(bars(data.classes, [
      { values: soft, fill: () => BLUE }, { values: hard, fill: () => GREEN },
    ], `Push on each logit of the soft part (left bars) and the hard part. ${says.textContent}`));
    numbers.replaceChildren(...data.classes.map(
      (name, i) => row(name, [teacher[i], student[i], soft[i], hard[i], soft[i] + hard[i]])));
  };
  slider.addEventListener("input", draw);
  weight.addEventListener("input", draw);
  draw();
  const key = (...names) => element("p", { class: "note" }, ...names);
  return [
    element("div", { class: "controls" }, label,
      element("span", {}, element("label", {}, "soft_weight ", weight), weighs)),
    element("div", { class: "side" },
      element("div", { class: "chart" }, probabilities, key("left bars teacher, right bars student: probability at T")),
      element("div", { class: "chart" }, pushes, key("left bars soft part, right bars hard part: push on the logit"))),
    says,
    table(["class", "teacher", "student", "soft push", "hard push", "together"], numbers),
  ];
};

// A teacher's answer by class and by subclass, softened by a temperature.
const subclasses = (data) => {
  const picture = element("img", { class: "pixels" });
  const left = element("div", { class: "chart" }), right = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const choice = element("select", {}, ...data.images.map((image) => element("option", {}, image.name)));
  const { slider, read, label } = temperatureSlider(data);
  const colours = [BLUE, ORANGE, GREEN];

  const draw = () => {
    const image = data.images[choice.selectedIndex], t = read();
    const each = softmax(image.logits, t), size = each.length / data.classes.length;
    const classes = data.classes.map((_, c) => each.slice(c * size, (c + 1) * size).reduce((a, b) => a + b, 0));
    const names = each.map((_, i) => `${data.classes[Math.floor(i / size)]} no. ${(i % size) + 1}`);
    picture.src = image.png;
    picture.alt = `${image.name}, as the teacher sees it`;
    says.textContent = `At T = ${t.toPrecision(3)} the classes hold ${entropyBits(classes).toFixed(2)} bits, `
      + `the subclasses ${entropyBits(each).toFixed(2)}.`;
    left.replaceChildren(bars(data.classes, [
      { values: classes, fill: (c) => colours[c % 3] }], `Classes. ${says.textContent}`, 1));
    right.replaceChildren(bars(names.map((_, i) => `${(i % size) + 1}`), [
      { values: each, fill: (i) => colours[Math.floor(i / size) % 3] }], `Subclasses, class by class. ${says.textContent}`, 1));
    numbers.replaceChildren(...names.map((name, i) => row(name, [each[i], classes[Math.floor(i / size)]])));
  };
  choice.addEventListener("change", draw);
  slider.addEventListener("input", draw);
  draw();
  return [
    element("div", { class: "controls" }, element("label", {}, "image ", choice), label),
    element("div", { class: "side" }, picture, left, right), says,
    table(["subclass", "its probability", "its class's"], numbers),
  ];
};

const COMPONENTS = { temperature, loss, subclasses };

for (const place of document.querySelectorAll(".component")) {
  const data = JSON.parse(place.querySelector("script").textContent);
  place.append(...COMPONENTS[data.component](data));
  place.querySelector(".still").hidden = true;
}
