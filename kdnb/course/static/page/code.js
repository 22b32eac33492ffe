// One switch unfolds the code and logs of all cells. Without scripts each mark unfolds its own.
for (const box of document.querySelectorAll("#show-code")) {
  box.closest("label").hidden = false;
  const unfold = () => {
    for (const fold of document.querySelectorAll("details.code, details.log")) fold.open = box.checked;
  };
  box.addEventListener("change", unfold);
  if (box.checked) unfold();  // a browser may restore it
}
