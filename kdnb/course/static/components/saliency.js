// Saliency maps over an image, cut out of one picture for each network and kind of map.
COMPONENTS.saliency = (data) => {
  const says = element("p", { role: "status" });
  const chart = element("div", { class: "side maps" });
  const numbers = element("tbody");
  const image = menu("image", data.images.map((one) => one.name)), target = menu("class", data.classes);
  const kind = menu("map", data.kinds.map((one) => one.name)), model = menu("model", ["all models", ...data.models]);
  target.selectedIndex = data.target;
  const place = (index, count) => (count > 1 ? 100 * index / (count - 1) : 0);

  const draw = () => {
    const i = image.selectedIndex, c = target.selectedIndex, maps = data.kinds[kind.selectedIndex].maps;
    const shown = data.models.map((name, m) => ({ name, m, map: maps[m] })).filter(
      (one) => one.map && (model.selectedIndex === 0 || model.selectedIndex - 1 === one.m));
    const about = `${kind.value} for ${data.classes[c]}, ${data.images[i].name}`;
    says.textContent = shown.length ? `${about}. ` + shown.map(({ name, map }) => {
      const [share, y, x] = map.says[i][c];
      return `${name}: ${(100 * share).toFixed(0)} % of its magnitude is positive, strongest at row ${y}, column ${x}`;
    }).join("; ") + "." : `${model.value} has no feature maps, so there is no ${kind.value}.`;
    const over = ({ name, map }) => element("figure", {},
      element("div", { class: "over", role: "img", "aria-label": `${name}: ${about}` },
        element("img", { src: data.images[i].png, alt: "" }),
        element("div", { style: `background: url(${map.png}) ${place(c, data.classes.length)}% ${place(i, data.images.length)}% / `
          + `${100 * data.classes.length}% ${100 * data.images.length}%` })),
      element("figcaption", {}, name));
    chart.replaceChildren(element("figure", {},
      element("div", { class: "over" }, element("img", { src: data.images[i].png, alt: `${data.images[i].name}, as the networks see it`, class: "whole" })),
      element("figcaption", {}, "image")), ...shown.map(over));
    numbers.replaceChildren(...shown.map(({ name, map }) => row(name, map.says[i][c])));
  };
  for (const control of [image, target, kind, model]) control.addEventListener("change", draw);
  draw();
  const named = (name, control) => element("label", {}, `${name} `, control);
  return [
    element("div", { class: "controls" }, named("image", image), named("class", target), named("map", kind), named("model", model)),
    chart, keyOf([[swatch(filled("#d55e00")), "positive"], [swatch(filled(BLUE)), "negative"]]), says,
    table(["model", "positive share", "strongest: row", "column"], numbers),
  ];
};
