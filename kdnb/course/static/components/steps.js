// A slider and a button that go through the steps of a diagram, a clone of the still.
COMPONENTS.steps = (data, place) => {
  const still = place.querySelector(".still svg"), svg = still.cloneNode(true);
  const groups = [...svg.querySelectorAll(".step")], last = groups.length;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const slider = range(0, 0, last, 1), button = element("button", { type: "button" });
  slider.setAttribute("data-state", "step");
  svg.classList.toggle("faint", data.faint);
  const says = element("p", { role: "status" });
  let timer = 0;

  const show = () => {
    const now = Number(slider.value);
    svg.classList.toggle("stepping", now > 0);
    groups.forEach((group, i) => group.classList.toggle("now", i === now - 1));
    says.textContent = now ? `Step ${now} of ${last}: ${data.names[now - 1]}` : `Shown: ${data.rest}`;
    slider.setAttribute("aria-valuetext", says.textContent);
  };
  const go = (step) => {
    slider.value = step > last ? 0 : step; // after the last step the diagram rests again
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const name = () => { button.textContent = calm.matches ? "Next" : timer ? "Pause" : "Play"; };
  const pause = () => {
    clearInterval(timer);
    timer = 0;
    says.setAttribute("aria-live", "polite");
    name();
  };
  const play = () => {
    says.setAttribute("aria-live", "off"); // a screen reader could not keep up
    // Once through in about ten seconds, with twelve steps in a second at most.
    timer = setInterval(() => {
      go(Number(slider.value) + 1);
      if (slider.value === "0") pause();
    }, Math.max(1000 / 12, 10000 / last));
    go(Number(slider.value) + 1);
    name();
  };
  slider.addEventListener("input", show);
  for (const taken of ["pointerdown", "keydown"]) slider.addEventListener(taken, pause);
  button.addEventListener("click", () => {
    if (calm.matches) go(Number(slider.value) + 1);
    else if (timer) pause();
    else play();
  });
  calm.addEventListener("change", pause);
  pause();
  show();
  return [
    element("div", { class: "controls" }, element("label", {}, `${data.name} `, slider), button),
    svg, says,
  ];
};
