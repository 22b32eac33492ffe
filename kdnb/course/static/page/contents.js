// The contents follow the scroll. Without scripts they are the same list of links.
for (const nav of document.querySelectorAll("nav")) {  // a component in a frame has none
  const fold = nav.querySelector("details");
  const list = nav.querySelector("ol"), here = nav.querySelector(".here");
  const links = new Map([...list.querySelectorAll("a")].map((a) => [a.hash.slice(1), a]));
  const headings = [...links.keys()].map((id) => document.getElementById(id));
  const passed = new Set();

  const mark = () => {
    const last = headings.findLast((heading) => passed.has(heading));
    for (const link of links.values()) link.removeAttribute("aria-current");
    here.textContent = "";
    if (!last) return;
    const link = links.get(last.id);
    link.setAttribute("aria-current", "true");
    here.textContent = link.textContent;
    // Not scrollIntoView: that would move the page as well.
    const box = list.getBoundingClientRect(), at = link.getBoundingClientRect();
    if (at.top < box.top || at.bottom > box.bottom) {
      list.scrollTop += at.top - box.top - box.height / 3;
    }
  };
  // A heading counts as passed once it enters the upper quarter of the window, and however far
  // above: otherwise a jump from one long section to another would go unnoticed.
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) passed.add(target); else passed.delete(target);
    }
    mark();
  }, { rootMargin: "10000000px 0px -75% 0px" });
  for (const heading of headings) observer.observe(heading);

  // On a phone the contents are folded at first.
  const narrow = matchMedia("(max-width: 60rem)");
  const refold = () => { fold.open = !narrow.matches; };
  narrow.addEventListener("change", refold);
  refold();
  list.addEventListener("click", (event) => {
    if (narrow.matches && event.target.closest("a")) fold.open = false;
  });
}
