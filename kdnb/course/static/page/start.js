// A component replaces the picture that a page without scripts shows, or comes beside it.
for (const place of document.querySelectorAll(".component")) {
  const data = JSON.parse(place.querySelector("script").textContent);
  place.dataset.component = data.component;
  place.append(...COMPONENTS[data.component](data, place));
  place.querySelector(".still").hidden = !place.classList.contains("beside");
}
