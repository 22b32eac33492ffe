// Fits the slides, starts reveal.js, and keeps the keys of sliders from turning slides.
addEventListener("load", () => {
  const control = "input, select, button, canvas, [tabindex]";
  const query = new URLSearchParams(location.search);
  const body = document.body, sections = [...document.querySelectorAll(".slides > section")];

  // A slide that is too full gets smaller letters: the smallest keep 16 of their 23 pixels. Text
  // alone begins larger.
  body.classList.add("measured");
  for (const section of sections) {
    const parts = [...section.querySelectorAll("*")].filter((part) => !part.closest("aside"));
    let fit = parts.some((part) => part.matches("img, table, svg.diagram, .component")) ? 1 : 1.5;
    section.style.setProperty("--fit", fit);
    const tooLarge = () => {
      const box = section.getBoundingClientRect();
      return section.scrollHeight > section.clientHeight || parts.some((part) => {
        const at = part.getBoundingClientRect();
        return at.bottom > box.bottom - 47 * fit || at.right > box.right - 40 * fit;
      });
    };
    while (tooLarge() && fit > 0.72) section.style.setProperty("--fit", fit -= 0.03);
  }
  body.classList.remove("measured");
  for (const box of document.querySelectorAll(".component")) box.setAttribute("data-prevent-swipe", "");

  Reveal.initialize({
    width: 1280, height: 720, margin: 0, center: false, display: "flex", transition: "none",
    hash: true, slideNumber: "c/t", pdfSeparateFragments: false, pdfMaxPagesPerSlide: 1,
    showNotes: query.has("speaker"),
    keyboardCondition: (event) => !event.target.closest(".component")?.contains(event.target.closest(control)),
  });
  // A presenter's remote sends these keys; in a slider too they turn the slides.
  addEventListener("keydown", (event) => {
    const turn = { PageDown: "next", PageUp: "prev" }[event.key];
    if (!turn || !event.target.closest(".component")) return;
    event.preventDefault();
    event.target.blur();
    Reveal[turn]();
  });

  // Two windows of this file, one of them with notes, show the same slide.
  let other = window.opener, led = false;
  const lead = () => { if (!led) other?.postMessage(Reveal.getState(), "*"); };
  for (const kind of ["slidechanged", "fragmentshown", "fragmenthidden"]) Reveal.on(kind, lead);
  addEventListener("message", (event) => {
    if (!other || event.source !== other) return;
    led = true;
    Reveal.setState(event.data);
    led = false;
  });
  Reveal.addKeyBinding({ keyCode: 83, key: "S", description: "Speaker's notes in a second window" }, () => {
    other = open(`${location.pathname}?speaker${location.hash}`, "speaker");
  });
  Reveal.addKeyBinding({ keyCode: 80, key: "P", description: "Version for printing" }, () => {
    location.search = "?print-pdf";
  });
});
