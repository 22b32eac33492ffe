// A component takes the place of the picture that stands there where scripts may not run.
for (const place of document.querySelectorAll(".component")) {
  const data = JSON.parse(place.querySelector("script").textContent);
  place.append(...COMPONENTS[data.component](data));
  place.querySelector(".still").hidden = true;
}
