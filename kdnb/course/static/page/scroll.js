// Wide contents scroll within their box, also by keyboard; a box that fits takes no keyboard focus.
document.addEventListener("DOMContentLoaded", () => { // by then the components are in place
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
