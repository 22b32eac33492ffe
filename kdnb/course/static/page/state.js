// The state of a component in the address: #02-loss?T=8&w=0.9 names the component that the reader
// touched last, and its settings that differ from where they rest. Only one: a link is then about
// one thing, and stays short. Opening the address restores all settings of that component.
addEventListener("load", () => {  // by then the components are in place and have their heights
  const WAIT = 400;  // milliseconds: browsers allow few changes of the address in a short time
  const states = new Map();
  let timer = 0, restoring = false;

  const at = (control) => (control.options ? control.selectedIndex : control.value);
  // Options go by their text if all are a few plain words of their own, else by their number.
  const worded = ({ options }) => {
    const texts = Array.from(options, (option) => option.value);
    return new Set(texts).size === texts.length && texts.every((text) => /^[\p{L}\p{N} -]{1,20}$/u.test(text)) ? texts : null;
  };
  const values = ({ dataset }) => dataset.values?.split(" ");
  const written = (control) => {
    if (control.options) return worded(control) ? control.value : `${control.selectedIndex + 1}`;
    if (values(control)) return values(control)[control.value - control.min];
    if (control.dataset.scale === "log2") return `${Number((2 ** control.value).toPrecision(4))}`;
    return control.value;
  };
  // What fits no setting leaves the control where it rests.
  const restore = (control, text, rest) => {
    if (control.options) {
      const index = worded(control)?.indexOf(text) ?? (/^\d+$/.test(text) ? text - 1 : -1);
      control.selectedIndex = index in control.options ? index : rest;
      return;
    }
    let value = text;
    if (values(control)) {
      const index = values(control).indexOf(text);
      value = index < 0 ? rest : index + Number(control.min);
    } else if (control.type !== "hidden") {
      const number = text?.trim() ? Number(text) : NaN;
      value = control.dataset.scale === "log2" ? Math.log2(number) : number;
      if (!Number.isFinite(value)) value = rest;
    }
    control.value = value ?? rest;
  };

  const follow = () => {
    clearTimeout(timer);
    const [name, query = ""] = location.hash.split(/\?(.*)/s);
    const state = states.get(name);
    if (!state) return;
    const wanted = new URLSearchParams(query);
    restoring = true;
    for (const [control, rest] of state.rests) restore(control, wanted.get(control.dataset.state) ?? undefined, rest);
    for (const [control] of state.rests) {
      for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, { bubbles: true }));
    }
    restoring = false;
    state.note();
    state.place.dispatchEvent(new CustomEvent("reveal", { bubbles: true }));  // what is covered opens
    state.place.scrollIntoView({ behavior: "instant" });
  };

  for (const place of document.querySelectorAll(".chapter .component")) {
    const rests = Array.from(place.querySelectorAll("[data-state]"), (control) => [control, at(control)]);
    if (!rests.length) continue;
    const chapter = place.closest(".chapter").querySelector(":is(h1, h2, h3)[id]").id.match(/^[^_-]+/)[0];
    const name = `${chapter}-${place.dataset.component}`;
    for (let n = 1; !place.id; n++) {
      const id = n > 1 ? `${name}-${n}` : name;
      if (!document.getElementById(id)) place.id = id;
    }
    const link = element("a", {}, "link to this state");
    const note = () => {
      const changed = rests.filter(([control, rest]) => at(control) !== rest);
      const query = new URLSearchParams(changed.map(([control]) => [control.dataset.state, written(control)]));
      link.href = `#${place.id}${changed.length ? `?${query}` : ""}`;
    };
    states.set(`#${place.id}`, { place, rests, note });
    note();
    if (window !== top) continue;  // in a frame the address is another document's
    place.append(element("p", { class: "state" }, link));
    const touched = (event) => {
      if (restoring || !event.target.dataset.state) return;
      note();
      clearTimeout(timer);
      timer = setTimeout(() => history.replaceState(null, "", link.hash), WAIT);
    };
    for (const kind of ["input", "change"]) place.addEventListener(kind, touched);
  }
  addEventListener("hashchange", follow);
  follow();
});
