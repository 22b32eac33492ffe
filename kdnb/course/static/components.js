"use strict";
// What a reader can move in the report. Each component computes from the data beside it and takes
// the place of the picture that stands there where scripts may not run.

const SVG = "http://www.w3.org/2000/svg";
const BLUE = "#0173b2", ORANGE = "#de8f05";

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

const bars = (names, values, outlined, describe) => {
  const step = 40, height = 150, width = step * names.length;
  const parts = [];
  const top = values.indexOf(Math.max(...values));
  names.forEach((name, i) => {
    const x = i * step + 5;
    const bar = { svg: 1, x, width: step - 10, y: height * (1 - values[i]), height: height * values[i] };
    parts.push(element("rect", { ...bar, fill: i === top ? BLUE : ORANGE }));
    const outline = { ...bar, y: height * (1 - outlined[i]), height: height * outlined[i] };
    parts.push(element("rect", { ...outline, class: "outline" }));
    const label = { svg: 1, x: x + step / 2 - 5, y: height + 16, "text-anchor": "middle" };
    parts.push(element("text", label, name));
  });
  const box = `-2 -2 ${width + 4} ${height + 24}`;
  return element("svg", { viewBox: box, role: "img", "aria-label": describe }, ...parts);
};

// The teacher's answer to an image, softened by a temperature.
const temperature = (data) => {
  const picture = element("img", { class: "pixels" });
  const chart = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const choice = element("select", {}, ...data.images.map((image) => element("option", {}, image.name)));
  const slider = element("input", {
    type: "range", min: Math.log2(data.lowest), max: Math.log2(data.highest), step: 0.125,
    value: Math.log2(data.temperature),
  });
  const reading = element("output");

  const draw = () => {
    const image = data.images[choice.selectedIndex];
    const t = 2 ** Number(slider.value);
    const plain = softmax(image.logits, 1), soft = softmax(image.logits, t);
    const top = soft.indexOf(Math.max(...soft));
    reading.textContent = `T = ${t.toPrecision(3)}`;
    slider.setAttribute("aria-valuetext", reading.textContent);
    picture.src = image.png;
    picture.alt = `${image.name}, as the teacher sees it`;
    says.textContent = `At ${reading.textContent} the answer holds ${entropyBits(soft).toFixed(2)} bits; `
      + `${(100 * (1 - soft[top])).toFixed(1)} % lie outside ${data.classes[top]}.`;
    chart.replaceChildren(bars(data.classes, soft, plain, says.textContent));
    numbers.replaceChildren(...data.classes.map((name, i) => element(
      "tr", {}, element("th", { scope: "row" }, name),
      element("td", {}, plain[i].toFixed(5)), element("td", {}, soft[i].toFixed(5)),
    )));
  };
  choice.addEventListener("change", draw);
  slider.addEventListener("input", draw);
  draw();

  const head = element("tr", {}, ...["class", "at T = 1", "at this T"].map(
    (name) => element("th", { scope: "col" }, name)));
  return [
    element("div", { class: "controls" },
      element("label", {}, "image ", choice),
      element("label", {}, "temperature ", slider, " ", reading)),
    element("div", { class: "side" }, picture, chart),
    says,
    element("details", {}, element("summary", {}, "the numbers"),
      element("table", {}, element("thead", {}, head), numbers)),
  ];
};

const COMPONENTS = { temperature };

for (const place of document.querySelectorAll(".component")) {
  const data = JSON.parse(place.querySelector("script").textContent);
  place.append(...COMPONENTS[data.component](data));
  place.querySelector(".still").hidden = true;
}
