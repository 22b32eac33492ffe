// Calibration of a model's confidence, by temperature.
COMPONENTS.calibration = (data) => {
  const chart = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const { slider, read, label } = temperatureSlider(data);
  const logits = unpacked(data.logits), classes = data.classes, images = data.labels.length;

  // As kdnb.evaluation.metrics.calibration: bins of equal width by confidence, empty ones left out.
  const calibration = (t) => {
    const bins = Array.from({ length: 10 }, () => ({ count: 0, confidence: 0, right: 0 }));
    data.labels.forEach((truth, i) => {
      const p = softmax(Array.from(logits.subarray(i * classes, (i + 1) * classes)), t);
      const top = Math.max(...p);
      const bin = bins[Math.min(Math.max(Math.ceil(top * 10), 1), 10) - 1];
      bin.count += 1;
      bin.confidence += top;
      bin.right += p.indexOf(top) === truth;
    });
    const used = bins.filter((bin) => bin.count).map((bin) => ({
      x: bin.confidence / bin.count, y: bin.right / bin.count, share: bin.count / images,
    }));
    return { used, error: used.reduce((sum, bin) => sum + bin.share * Math.abs(bin.x - bin.y), 0) };
  };
  const plain = calibration(1);

  const draw = () => {
    const t = read(), now = calibration(t);
    says.textContent = `At T = ${t.toPrecision(3)} the expected calibration error is ${(100 * now.error).toFixed(2)} % `
      + `(at T = 1: ${(100 * plain.error).toFixed(2)} %).`;
    const axis = (name) => ({ name, from: 0, to: 1 });
    chart.replaceChildren(...xyChart([
      { name: "T = 1", points: plain.used }, { name: `T = ${t.toPrecision(3)}`, points: now.used },
    ], axis("confidence"), axis("accuracy"), `Reliability diagram. ${says.textContent}`, { diagonal: true, named: { diagonal: "perfectly calibrated" } }));
    numbers.replaceChildren(...now.used.map((bin, i) => row(`${i + 1}`, [bin.share, bin.x, bin.y])));
  };
  slider.addEventListener("input", draw);
  draw();
  return [
    element("div", { class: "controls" }, label), chart, says,
    table(["bin", "share of images", "confidence", "accuracy"], numbers),
  ];
};
