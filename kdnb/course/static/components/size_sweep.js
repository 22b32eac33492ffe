// The best student within a budget, of several sizes and methods.
COMPONENTS.size_sweep = (data) => {
  const chart = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const choice = menu("by", data.budgets.map((one) => one.name));
  const slider = range(data.steps / 2, 0, data.steps, 1, { "data-state": "budget" }), reading = element("output");
  const offers = data.sizes.flatMap((name, size) => data.methods.map((method) => (
    { name: `${name}, ${method.name}`, size, y: method.intervals[size][0], validated: method.validated[size] })));

  const draw = () => {
    const budget = data.budgets[choice.selectedIndex], costs = budget.spends;
    const least = Math.min(...costs), most = Math.max(...costs);
    const limit = least * (most / least) ** (Number(slider.value) / data.steps) * 1.001;
    const affordable = offers.filter((offer) => costs[offer.size] <= limit);
    const best = affordable.reduce((a, b) => (  // test images choose no size; of equals the cheapest
      (b.validated - a.validated || costs[a.size] - costs[b.size]) > 0 ? b : a));
    const byCost = [...offers].sort((a, b) => costs[a.size] - costs[b.size] || b.y - a.y);
    const front = byCost.filter((offer, i) => byCost.slice(0, i).every((other) => offer.y > other.y));
    reading.textContent = short(Number(limit.toPrecision(3)));
    slider.setAttribute("aria-valuetext", `${reading.textContent} ${budget.name}`);
    says.textContent = `Best within a budget of ${reading.textContent} ${budget.name}: ${best.name}: ${best.y.toFixed(1)} %.`;
    const series = data.methods.map((method) => ({
      name: method.name,
      points: method.intervals.map(([y, low, high], i) => ({ x: costs[i], y, low, high })),
    }));
    series.push({ name: "teacher", line: false, points: [{ x: budget.teacher, ...data.teacher }] });
    const all = series.flatMap((one) => one.points);
    chart.replaceChildren(...xyChart(series,
      { name: budget.name, log: true, from: 0.7 * Math.min(...all.map((p) => p.x)), to: 1.5 * Math.max(...all.map((p) => p.x)) },
      { name: "test accuracy (%)", from: Math.min(...all.map((p) => p.low)), to: Math.max(...all.map((p) => p.high)) },
      `Accuracy against ${budget.name}. ${says.textContent}`,
      {
        limit, rings: front.map((offer) => ({ x: costs[offer.size], y: offer.y })),
        named: { ends: "95 % interval", rings: "no cheaper model is better", limit: "over budget" },
      }));
    numbers.replaceChildren(...data.sizes.map(
      (name, i) => row(name, [costs[i], ...data.methods.map((method) => method.intervals[i][0])])));
  };
  choice.addEventListener("change", draw);
  slider.addEventListener("input", draw);
  draw();
  return [
    element("div", { class: "controls" }, element("label", {}, "budget in ", choice),
      element("span", {}, element("label", {}, "budget ", slider), reading)),
    chart, says,
    table(["student", "cost", ...data.methods.map((method) => `${method.name} (%)`)], numbers),
  ];
};
