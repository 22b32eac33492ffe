// What follows a guess in its chapter is covered until the reader reveals it, or asks for a place
// there by a link or an address. Without scripts and on paper nothing is covered.
{
  // All that comes after a place, up to the end of a part of the page.
  const after = (place, end) => {
    const found = [];
    for (let at = place; at !== end; at = at.parentElement) {
      for (let next = at.nextElementSibling; next; next = next.nextElementSibling) found.push(next);
    }
    return found;
  };

  const opened = new Set(); // chapters
  const cover = () => {
    const all = document.getElementById("show-answers")?.checked;
    for (const part of document.querySelectorAll(".covered")) part.classList.remove("covered");
    for (const chapter of document.querySelectorAll(".chapter")) {
      const places = [...chapter.querySelectorAll(".guess")];
      for (const place of places) place.querySelector(".curtain").hidden = true;
      const first = places.find(({ dataset: { key } }) => (
        !GUESSES.has(key) && chapter.contains(OUTCOMES.get(key)?.place ?? null)));
      if (!first || all || opened.has(chapter)) continue;
      first.querySelector(".curtain").hidden = false;
      for (const part of after(first, chapter)) part.classList.add("covered");
    }
  };

  // Whether something was covered and is not any more.
  const uncover = (target) => {
    const covered = target?.closest(".covered");
    if (!covered) return false;
    opened.add(covered.closest(".chapter"));
    cover();
    return true;
  };
  const addressed = (hash) => document.getElementById(hash.slice(1));

  document.addEventListener("guessed", cover);
  document.addEventListener("reveal", (event) => uncover(event.target));
  addEventListener("hashchange", () => {
    const target = addressed(location.hash);
    if (uncover(target)) target.scrollIntoView({ behavior: "instant" });
  });
  document.addEventListener("DOMContentLoaded", () => { // by then the components are in place
    cover();
    const answers = document.getElementById("show-answers"), target = addressed(location.hash);
    if (answers) {
      answers.closest("label").hidden = !document.querySelector(".covered");
      answers.addEventListener("change", cover);
    }
    if (uncover(target)) target.scrollIntoView({ behavior: "instant" });
  });
}
