// The teacher's probabilities for an image, softened by a temperature.
COMPONENTS.temperature = (data) => {
  const picture = element("img", { class: "pixels" });
  const chart = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const choice = menu("image", data.images.map((image) => image.name));
  const { slider, read, label } = temperatureSlider(data);
  const names = shortened(data.classes);

  const key = keyOf([
    [swatch(filled(BLUE)), "likeliest class"], [swatch(filled(ORANGE)), "other classes"], [swatch(OUTLINE), "at T = 1"],
  ], "probability at this T");

  const draw = () => {
    const image = data.images[choice.selectedIndex], t = read();
    const plain = softmax(image.logits, 1), soft = softmax(image.logits, t);
    const top = soft.indexOf(Math.max(...soft)), few = topClasses(image.logits);
    picture.src = image.png;
    picture.alt = `${image.name}, as the teacher sees it`;
    says.textContent = `At T = ${t.toPrecision(3)} the entropy is ${entropyBits(soft).toFixed(2)} bits; `
      + `${(100 * (1 - soft[top])).toFixed(1)} % of the probability lies outside ${data.classes[top]}.`;
    const now = few.of(soft), before = few.of(plain);
    chart.replaceChildren(bars(few.names(names), [
      { values: now, look: (i) => filled(few.rows[i] === top ? BLUE : ORANGE) }, { values: before, outline: true },
    ], says.textContent, 1), key);
    numbers.replaceChildren(...few.names(data.classes).map((name, i) => row(name, [before[i], now[i]])));
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
