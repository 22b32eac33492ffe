// A teacher's probabilities by class and by subclass, softened by a temperature.
COMPONENTS.subclasses = (data) => {
  const picture = element("img", { class: "pixels" });
  const left = element("div", { class: "chart" }), right = element("div", { class: "chart" });
  const key = element("div");
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const choice = menu("image", data.images.map((image) => image.name));
  const { slider, read, label } = temperatureSlider(data);
  const cut = shortened(data.classes);
  const colours = [BLUE, ORANGE, GREEN];

  const draw = () => {
    const image = data.images[choice.selectedIndex], t = read();
    const each = softmax(image.logits, t), size = each.length / data.classes.length;
    const classes = data.classes.map((_, c) => each.slice(c * size, (c + 1) * size).reduce((a, b) => a + b, 0));
    const few = topClasses(classes, undefined, Math.max(3, Math.min(12, Math.floor(60 / size))));
    const shown = few.rows.flatMap((c) => Array.from({ length: size }, (_, i) => c * size + i));
    picture.src = image.png;
    picture.alt = `${image.name}, as the teacher sees it`;
    says.textContent = `At T = ${t.toPrecision(3)}, entropy over classes: ${entropyBits(classes).toFixed(2)} bits, `
      + `over subclasses: ${entropyBits(each).toFixed(2)} bits.`;
    key.replaceChildren(keyOf(few.names(data.classes).map((name, i) => [swatch(filled(colours[i % 3])), name]), "probability of a class (left), of each of its subclasses (right)"));
    left.replaceChildren(bars(few.names(cut), [
      { values: few.of(classes), look: (i) => filled(colours[i % 3]) }], `Classes. ${says.textContent}`, 1));
    right.replaceChildren(bars(shown.map((k) => `${(k % size) + 1}`), [
      { values: shown.map((k) => each[k]), look: (i) => filled(colours[Math.floor(i / size) % 3]) }], `Subclasses, class by class. ${says.textContent}`, 1));
    numbers.replaceChildren(...shown.map((k) => row(
      `${data.classes[Math.floor(k / size)]} no. ${(k % size) + 1}`, [each[k], classes[Math.floor(k / size)]])));
  };
  choice.addEventListener("change", draw);
  slider.addEventListener("input", draw);
  draw();
  return [
    element("div", { class: "controls" }, element("label", {}, "image ", choice), label),
    element("div", { class: "side" }, picture, left, right), key, says,
    table(["subclass", "its probability", "its class's"], numbers),
  ];
};
