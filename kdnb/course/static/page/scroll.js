// What is wider than its box scrolls within it, by keyboard too; what fits is no stop on the way.
document.addEventListener("DOMContentLoaded", () => { // then the components stand there as well
  const observer = new ResizeObserver((entries) => {
    for (const { target: box } of entries) {
      const wide = box.scrollWidth > box.clientWidth;
      const attributes = { tabindex: 0, role: "group", "aria-label": `${box.dataset.what}, scrolls sideways` };
      for (const [name, value] of Object.entries(attributes)) {
        if (wide) box.setAttribute(name, value); else box.removeAttribute(name);
      }
    }
  });
  for (const box of document.querySelectorAll(".scroll")) observer.observe(box);
});
