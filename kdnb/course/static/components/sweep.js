// Invented and true subclasses by loss, number of subclasses and weight, from stored runs.
COMPONENTS.sweep = (data) => {
  const says = element("p", { role: "status" });
  const chart = element("div", { class: "scroll", "data-what": "table" });
  const choice = menu("loss", data.losses);
  choice.selectedIndex = data.losses.length - 1;
  const stepped = (name, options, start) => {
    const reading = element("output");
    const slider = range(start, 0, options.length - 1, 1, { "data-state": name, "data-values": options.join(" ") });
    const read = () => {
      const value = options[Number(slider.value)];
      reading.textContent = `${value}`;
      slider.setAttribute("aria-valuetext", reading.textContent);
      return value;
    };
    return { slider, read, label: element("span", {}, element("label", {}, `${name} `, slider), reading) };
  };
  const sizes = stepped("subclasses", data.sizes, 1), weights = stepped("weight", data.weights, 2);

  const draw = () => {
    const loss = data.losses[choice.selectedIndex], size = sizes.read(), weight = weights.read();
    const cell = data.cells.find((c) => c.loss === loss && c.subclasses === size && c.weight === weight);
    says.textContent = cell.says;
    chart.replaceChildren(element("table", { class: "heat" },
      element("caption", {}, "images of the first seed: invented subclasses (rows) by true subclasses (columns)"),
      element("thead", {}, element("tr", {}, element("td"), ...data.names.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...cell.rows.map(([name, counts]) => {
        const all = counts.reduce((a, b) => a + b, 0);
        return element("tr", {}, element("th", { scope: "row" }, name), ...counts.map(
          (n) => element("td", { style: `--share: ${Math.round(100 * n / (all || 1))}%` }, `${n}`)));
      }))));
  };
  choice.addEventListener("change", draw);
  for (const one of [sizes, weights]) one.slider.addEventListener("input", draw);
  draw();
  return [
    element("div", { class: "controls" }, element("label", {}, "loss ", choice), sizes.label, weights.label),
    says, chart, keyOf([0, 0.5, 1].map((share) => [
      swatch({ fill: "#0173b2", "fill-opacity": 0.75 * share, class: "cell" }), `${100 * share} %`]), "images of the row"),
  ];
};
