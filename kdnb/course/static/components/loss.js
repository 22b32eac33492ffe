// The push of each part of the distillation loss on each logit of a student.
COMPONENTS.loss = (data) => {
  const probabilities = element("div", { class: "chart" }), pushes = element("div", { class: "chart" });
  const says = element("p", { role: "status" });
  const numbers = element("tbody");
  const { slider, read, label } = temperatureSlider(data);
  const cut = shortened(data.classes);
  const weight = range(data.soft_weight, 0, 1, 0.05, { "data-state": "w" }), weighs = element("output");

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
    const few = topClasses(soft.map((v, i) => Math.abs(v + hard[i])), data.label), names = few.names(cut);
    const shown = [teacher, student, soft, hard].map(few.of);
    probabilities.replaceChildren(bars(names, [
      { values: shown[0], look: () => filled(BLUE) }, { values: shown[1], look: () => hollow(ORANGE) },
    ], `Probabilities at this T of teacher and student. ${says.textContent}`, 1));
    pushes.replaceChildren(bars(names, [
      { values: shown[2], look: () => filled(BLUE) }, { values: shown[3], look: () => hollow(GREEN) },
    ], `Push on each logit of the soft and the hard part. ${says.textContent}`));
    numbers.replaceChildren(...few.names(data.classes).map(
      (name, i) => row(name, [...shown.map((values) => values[i]), shown[2][i] + shown[3][i]])));
  };
  slider.addEventListener("input", draw);
  weight.addEventListener("input", draw);
  draw();
  const key = (about, first, second, colour) => keyOf([[swatch(filled(BLUE)), first], [swatch(hollow(colour)), second]], about);
  return [
    element("div", { class: "controls" }, label,
      element("span", {}, element("label", {}, "soft_weight ", weight), weighs)),
    element("div", { class: "side" },
      element("div", { class: "chart" }, probabilities, key("probability at T", "teacher", "student", ORANGE)),
      element("div", { class: "chart" }, pushes, key("push on the logit", "soft part", "hard part", GREEN))),
    says,
    table(["class", "teacher", "student", "soft push", "hard push", "together"], numbers),
  ];
};
