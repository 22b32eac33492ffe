// Learning curves of each method: the mean over seeds with its interval, epoch by epoch.
COMPONENTS.curves = (data) => {
  const chart = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const choice = menu("quantity", data.quantities.map((one) => one.name));
  const epochs = data.epochs, count = epochs.length;
  const slider = range(count, 1, count, 1, { "data-state": "epoch", "data-values": epochs.join(" ") }), reading = element("output");

  // Student's t interval over the seeds; ``data.t`` is its factor for this number of seeds.
  const interval = (values) => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
    const half = data.t * Math.sqrt(squares / (values.length - 1) / values.length);
    return { y: mean, low: mean - half, high: mean + half };
  };
  const curves = data.quantities.map((one) => one.values.map((seeds) => Array.from(
    epochs, (x, e) => ({ x, ...interval(seeds.map((seed) => seed[e])) }))));

  const draw = () => {
    const quantity = data.quantities[choice.selectedIndex], at = slider.value - 1, epoch = epochs[at];
    const shown = curves[choice.selectedIndex], now = shown.map((curve) => curve[at]);
    reading.textContent = `epoch ${epoch}`;
    slider.setAttribute("aria-valuetext", reading.textContent);
    says.textContent = `After epoch ${epoch}, ${quantity.name}: ` + data.methods.map(
      (name, i) => `${name}: ${now[i].y.toFixed(quantity.digits)}`).join("; ") + ".";
    const ends = shown.flat();
    const low = Math.min(...ends.map((p) => p.low)), high = Math.max(...ends.map((p) => p.high));
    const each = Math.ceil(count / 12);  // as many marks as stay legible
    chart.replaceChildren(...xyChart(
      data.methods.map((name, i) => ({
        name, points: shown[i].filter((_, e) => e === at || (e <= at && e % each === 0)),
      })),
      { name: "epoch", from: 0, to: epochs[count - 1] + 0.5 }, { name: quantity.name, from: low, to: high },
      says.textContent, { named: { ends: "95 % interval over seeds" } }));
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
