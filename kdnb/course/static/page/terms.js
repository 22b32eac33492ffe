// A term's definition is a popover: the browser opens it by tap and by Enter, and closes it by Escape.
// This opens it under a mouse too, and puts it near its term.
{
  const SHOW = 150, HIDE = 250;  // milliseconds: crossing a term opens nothing, and the way to the definition closes nothing
  let timer, hovered = null;

  const later = (what, wait) => { clearTimeout(timer); timer = setTimeout(what, wait); };
  const leave = () => later(() => {
    hovered?.popoverTargetElement.hidePopover();
    hovered = null;
  }, HIDE);
  // In the page's coordinates, so that it scrolls with its term: below, or above where more room is.
  const near = (term) => {
    const entry = term.popoverTargetElement, box = term.getBoundingClientRect();
    const { clientHeight: height } = document.documentElement, gap = 6;
    const left = `max(.5rem, min(${box.left}px, 100% - 22.5rem))`;
    const [top, bottom] = box.bottom < 0.6 * height
      ? [`${scrollY + box.bottom + gap}px`, "auto"] : ["auto", `${height - scrollY - box.top + gap}px`];
    entry.style.setProperty("--inset", `${top} auto ${bottom} ${left}`);
    entry.classList.add("near");
    return entry;
  };

  for (const term of document.querySelectorAll(".term")) {
    term.addEventListener("pointerenter", ({ pointerType }) => {
      if (pointerType === "touch" || term.popoverTargetElement.matches(":popover-open")) return;
      later(() => { near(term).showPopover({ source: term }); hovered = term; }, SHOW);
    });
    term.addEventListener("pointerleave", leave);
    term.addEventListener("click", (event) => {
      clearTimeout(timer);
      near(term);
      // What the pointer has opened stays open at a click.
      if (hovered) event.preventDefault();
      hovered = null;
    });
  }
  for (const entry of document.querySelectorAll(".glossary [popover]")) {
    entry.addEventListener("pointerenter", () => clearTimeout(timer));
    entry.addEventListener("pointerleave", leave);
    entry.addEventListener("toggle", ({ newState }) => {
      if (newState === "closed" && hovered?.popoverTargetElement === entry) hovered = null;
    });
  }
  // On paper it is in the list.
  addEventListener("beforeprint", () => {
    for (const entry of document.querySelectorAll(".glossary :popover-open")) entry.hidePopover();
  });
}
