// How each method learns: the mean over seeds with its interval, epoch by epoch.
COMPONENTS.curves = (data) => {
  const chart = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const choice = element("select", {}, ...data.quantities.map((one) => element("option", {}, one.name)));
  const epochs = data.quantities[0].values[0][0].length;
  const slider = range(epochs, 1, epochs, 1), reading = element("output");

  // Student's t interval over the seeds; ``data.t`` is its factor for so many.
  const interval = (values) => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
    const half = data.t * Math.sqrt(squares / (values.length - 1) / values.length);
    return { y: mean, low: mean - half, high: mean + half };
  };
  const curves = data.quantities.map((one) => one.values.map((seeds) => Array.from(
    { length: epochs }, (_, e) => ({ x: e + 1, ...interval(seeds.map((seed) => seed[e])) }))));

  const draw = () => {
    const quantity = data.quantities[choice.selectedIndex], epoch = Number(slider.value);
    const shown = curves[choice.selectedIndex], now = shown.map((curve) => curve[epoch - 1]);
    reading.textContent = `epoch ${epoch}`;
    slider.setAttribute("aria-valuetext", reading.textContent);
    says.textContent = `After epoch ${epoch}, ${quantity.name}: ` + data.methods.map(
      (name, i) => `${name}: ${now[i].y.toFixed(quantity.digits)}`).join("; ") + ".";
    const ends = shown.flat();
    const low = Math.min(...ends.map((p) => p.low)), high = Math.max(...ends.map((p) => p.high));
    const each = Math.ceil(epochs / 12);  // so many marks that they can be told apart
    chart.replaceChildren(...xyChart(
      data.methods.map((name, i) => ({
        name, points: shown[i].filter((p) => p.x === epoch || (p.x <= epoch && (p.x - 1) % each === 0)),
      })),
      { name: "epoch", from: 0, to: epochs + 0.5 }, { name: quantity.name, from: low, to: high },
      says.textContent));
    numbers.replaceChildren(...data.methods.map((name, i) => row(name, [now[i].y, now[i].low, now[i].high])));
  };
  choice.addEventListener("change", draw);
  slider.addEventListener("input", draw);
  draw();
  return [
    element("div", { class: "controls" }, element("label", {}, "quantity ", choice),
      element("span", {}, element("label", {}, "epoch ", slider), reading)),
    chart, says,
    table(["method", "mean over seeds", "95 % interval from", "to"], numbers),
  ];
};
