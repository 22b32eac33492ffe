// JupyterLab runs this in an output beside some sliders of ipywidgets (`element` is this output).
// Gives their handles the sliders' labels as names and the values shown as spoken values.
const whenShown = () => {
  const box = element.closest(".widget-vbox:has(.widget-inline-hbox)");
  if (!box) {
    whenShown.left -= 1;
    if (whenShown.left) requestAnimationFrame(whenShown);
    return;
  }
  const update = () => {
    for (const row of box.querySelectorAll(".widget-inline-hbox")) {
      const handle = row.querySelector(".noUi-handle");
      const label = row.querySelector(".widget-label"), reading = row.querySelector(".widget-readout");
      if (!handle || !label) continue;
      handle.setAttribute("aria-label", label.textContent);
      handle.setAttribute("aria-description", label.title);
      if (reading) handle.setAttribute("aria-valuetext", reading.textContent);
    }
  };
  const watch = { childList: true, subtree: true, characterData: true };
  new MutationObserver(update).observe(box, { ...watch, attributeFilter: ["aria-valuenow"] });
  update();
};
whenShown.left = 600;
whenShown();
