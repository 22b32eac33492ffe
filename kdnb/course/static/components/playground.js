// The images, and the logits of a seed's teacher, that both students train on.
const playgroundData = async ({ classes, train, val, teachers }, seed) => {
  const inflated = async (text) => new Uint8Array(await new Response(
    new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]).stream().pipeThrough(new DecompressionStream("deflate")),
  ).arrayBuffer());
  const split = async ({ pixels, labels }) => ({ pixels: await inflated(pixels), labels: await inflated(labels) });
  const { scale, logits } = teachers.find((teacher) => teacher.seed === seed);
  return { classes, scale, train: await split(train), val: await split(val), logits: new Int8Array((await inflated(logits)).buffer) };
};

// Two students trained in the page: one by labels only, one by a teacher's cached logits as well.
COMPONENTS.playground = (data) => {
  const NAMES = ["labels only", "distilled"];

  // Controls
  const { slider, read, label } = temperatureSlider(data);
  const weight = range(data.soft_weight, 0, 1, 0.05, { "data-state": "w" }), weighs = element("output");
  const select = (name, state, options) => {
    const made = menu(state, options);
    made.value = `${data.start[state]}`;
    return { made, label: element("label", {}, `${name} `, made) };
  };
  const selects = {
    images: select("images", "images", data.counts.map(({ count }) => count)),
    epochs: select("epochs", "epochs", data.epochs),
    hidden: select("hidden width", "hidden", data.hidden),
    seed: select("seed", "seed", data.teachers.map((teacher) => teacher.seed)),
  };
  const button = (name) => element("button", { type: "button" }, name);
  const train = button("Train"), every = button("Train every seed"), pause = button("Pause"), reset = button("Reset");
  const says = element("p", { role: "status" }), progress = element("p", { class: "note" });
  const charts = [element("div", { class: "chart" }), element("div", { class: "chart" })];
  const about = element("p", { class: "note" }), numbers = element("tbody");

  const now = () => ({
    T: read(), w: Number(weight.value),
    ...Object.fromEntries(Object.entries(selects).map(([name, { made }]) => [name, Number(made.value)])),
  });
  const start = { ...data.start, T: data.temperature, w: data.soft_weight };
  const isOwn = (at) => Object.keys(start).every((name) => name === "seed" || Math.abs(at[name] - start[name]) < 1e-9);
  const withoutSeed = (at) => `T = ${at.T.toPrecision(3)}, soft_weight ${at.w.toFixed(2)}, ${at.images} images, `
    + `${at.epochs} epochs, hidden width ${at.hidden}`;
  const inWords = (at) => `${withoutSeed(at)}, seed ${at.seed}`;
  const settings = (at) => data.recipes.map((recipe, i) => ({
    ...recipe, hidden: at.hidden, seed: at.seed, epochs: at.epochs, validations: data.validations,
    chosen: Int32Array.from(data.counts.find(({ count }) => count === at.images).places),
    ...(i ? { temperature: at.T, weight: at.w } : {}),
  }));

  // Curves: those of the present training, and those of one before it, at first the run's.
  const own = () => {
    const { seed } = now();
    return { at: { ...start, seed }, says: `this run's students of seed ${seed}, trained in PyTorch`,
      epochs: data.teachers.find((teacher) => teacher.seed === seed).students };
  };
  let before = null, live = null, running = null, ticking = null, source = null;
  const gains = new Map(); // by setting, then by seed
  const last = (epochs) => epochs.findLast(({ accuracy }) => accuracy !== undefined)?.accuracy;
  const signed = (points) => `${points < 0 ? "\u2212" : "+"}${Math.abs(points).toFixed(1)}`;
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const gainOf = ({ epochs }) => 100 * (last(epochs[1]) - last(epochs[0]));
  const result = (one) => ["Labels only", "distilled"].map((name, i) => `${name} ${(100 * last(one.epochs[i])).toFixed(1)} %`).join(", ")
    + `: the gain is ${signed(gainOf(one))} points on ${data.images.toLocaleString("en")} validation images.`;
  // The gains of all seeds trained at a setting, and whether their mean lies in the run's interval.
  const judged = ({ at }) => {
    const bySeed = [...gains.get(withoutSeed(at))].sort(([a], [b]) => a - b), among = bySeed.map(([, gain]) => gain);
    const seeds = bySeed.length < 2 ? "" : ` Gains of the seeds ${bySeed.map(([seed, gain]) => `${seed}: ${signed(gain)}`).join(", ")}; `
      + `mean ${signed(mean(among))} points.`;
    if (!data.gain) return seeds;
    const { low, high } = data.gain, every = data.teachers.length;
    const interval = `the 95 % interval of the run's mean gain over ${every} seeds (${signed(low)} to ${signed(high)} points)`;
    if (!isOwn(at)) return `${seeds} For comparison, ${interval} at its own setting.`;
    if (bySeed.length < every) return `${seeds} Compare ${interval}: train the other seeds for a mean of your own.`;
    const where = mean(among) < low ? "below" : mean(among) > high ? "above" : "inside";
    return `${seeds} The mean lies ${where} ${interval}.`;
  };

  const draw = () => {
    const past = before ?? own(), shown = [past, ...(live ? [live] : [])];
    const until = Math.max(...shown.map((one) => one.at.epochs));
    const series = (value) => shown.flatMap((one) => one.epochs.map((epochs, i) => {
      const points = epochs.map((epoch) => ({ x: epoch.epoch, y: value(epoch) })).filter(({ y }) => y !== undefined);
      const each = Math.ceil(points.length / 10); // as many marks as stay legible
      points.forEach((p, k) => { p.mark = (points.length - 1 - k) % each === 0; });
      return { name: one === live || !live ? NAMES[i] : `${NAMES[i]}, before`, as: i, faint: one !== live, points };
    }));
    const accuracies = series(({ accuracy }) => accuracy && 100 * accuracy), losses = series(({ loss }) => loss);
    const judge = live?.done ? live : past;
    if (data.gain && isOwn(judge.at)) {
      const base = 100 * last(judge.epochs[0]), gain = data.gain;
      accuracies.push({ name: "labels only plus the run's mean gain and interval", as: 2, line: false,
        points: [{ x: 1.03 * until, y: base + gain.mean, low: base + gain.low, high: base + gain.high }] });
    }
    const tops = accuracies.filter((one) => one.points.length).map((one) => Math.max(...one.points.map(({ y }) => y)));
    const floor = Math.max(0, 5 * Math.floor(Math.min(...tops) / 5 - 2));
    for (const one of accuracies) one.points = one.points.filter(({ y }) => y >= floor);
    const ends = losses.flatMap((one) => one.points.map(({ y }) => y));
    const epochs = { name: "epoch", from: 0, to: 1.06 * until };
    const words = shown.map((one) => `${one === live ? "This training" : one.says}: ${NAMES.map((name, i) => {
      const epoch = one.epochs[i].at(-1), accuracy = last(one.epochs[i]);
      return `${name}, epoch ${epoch?.epoch ?? 0}${epoch ? `, loss ${epoch.loss.toFixed(3)}` : ""}`
        + (accuracy === undefined ? "" : `, validation accuracy ${(100 * accuracy).toFixed(1)} %`);
    }).join("; ")}.`).join(" ");
    charts[0].replaceChildren(...xyChart(accuracies, epochs,
      { name: "validation accuracy (%)", from: floor, to: Math.min(100, Math.max(...tops) + 1.5) }, words));
    charts[1].replaceChildren(...xyChart(losses, epochs,
      { name: "training loss (nats)", from: 0.95 * Math.min(...ends), to: 1.05 * Math.max(...ends), log: true }, words));
    about.textContent = `Faint: ${past.says}. The two losses differ: compare each with itself.`;
    numbers.replaceChildren(...shown.flatMap((one) => NAMES.map((name, i) => row(
      one === live ? name : `${name}, ${live ? "before" : "the run"}`,
      one.epochs[i].length ? [one.epochs[i].at(-1).epoch, one.epochs[i].at(-1).loss, 100 * (last(one.epochs[i]) ?? NaN)] : []))));
    if (live) {
      const most = Math.min(...live.epochs.map((of) => of.length));
      const state = live.done ? "finished" : running.paused ? "paused" : "training";
      progress.textContent = `${state}: epoch ${most} of ${live.at.epochs}, ${(running.seconds() / 1000).toFixed(1)} s, ${running.where}`;
    } else progress.textContent = "";
  };

  // Trains both students, each in a worker, or in turns on the page's own thread where there are none.
  const begin = (common, each, report) => {
    const clock = { sum: 0, since: performance.now() };
    const made = { paused: false, where: "two workers", seconds: () => clock.sum + (made.paused || made.over ? 0 : performance.now() - clock.since) };
    let workers = [], turns = null;
    const inTurns = () => {
      if (turns) return; // the other worker has failed too
      stopWorkers();
      made.where = "in turns, without workers";
      turns = playgroundEngine().run(common, each, 15, report);
      if (made.paused) turns.pause();
    };
    const stopWorkers = () => {
      for (const worker of workers) worker.terminate();
      workers = [];
    };
    const hold = (kind) => {
      if (turns) turns[kind]();
      for (const worker of workers) worker.postMessage({ kind });
    };
    made.pause = () => {
      clock.sum = made.seconds();
      made.paused = true;
      hold("pause");
    };
    made.resume = () => {
      clock.since = performance.now();
      made.paused = false;
      hold("resume");
    };
    made.stop = () => {
      clock.sum = made.seconds();
      made.over = true;
      turns?.pause();
      stopWorkers();
    };
    try {
      source ??= URL.createObjectURL(new Blob([`(${playgroundEngine})().serve()`], { type: "text/javascript" }));
      workers = each.map((one, i) => {
        const worker = new Worker(source);
        worker.onerror = inTurns;
        worker.onmessage = ({ data: { epochs, done } }) => report(i, epochs, done);
        worker.postMessage({ kind: "start", data: common, settings: one });
        return worker;
      });
    } catch { // no Worker in this browser, or none for this file
      inTurns();
    }
    return made;
  };

  const stop = () => {
    running?.stop();
    clearInterval(ticking);
    pause.textContent = "Pause";
  };
  const leave = () => { // the present training becomes the one before
    stop();
    if (live?.epochs.every((epochs) => last(epochs) !== undefined)) before = { ...live, says: `your last training, ${inWords(live.at)}` };
    live = null;
  };
  const rest = (words) => {
    weighs.textContent = Number(weight.value).toFixed(2);
    says.textContent = `${words} Press Train to train two students in this page.`;
    read();
    draw();
  };
  const resting = () => rest(`This run, seed ${now().seed}. ${result(own())}`);

  // Trains the students of the setting; ``then`` follows when both are finished.
  const begun = async (then = () => {}) => {
    leave();
    const one = { at: now(), epochs: [[], []], done: false }, finished = [false, false];
    live = one;
    says.textContent = `Training two students: ${inWords(one.at)}.`;
    try {
      const common = await playgroundData(data, one.at.seed);
      if (live !== one) return;
      running = begin(common, settings(one.at), (i, epochs, done) => {
        if (live !== one) return;
        // A training that begins again, without workers, repeats its first epochs.
        if (epochs.length) one.epochs[i] = [...one.epochs[i].slice(0, epochs[0].epoch - 1), ...epochs];
        finished[i] = done;
        if (running?.paused) draw(); // what was under way when it was paused
        if (!finished.every(Boolean)) return;
        one.done = true;
        stop();
        const key = withoutSeed(one.at);
        gains.set(key, (gains.get(key) ?? new Map()).set(one.at.seed, gainOf(one)));
        says.textContent = result(one) + judged(one);
        draw();
        then();
      });
      ticking = setInterval(() => { if (!running.paused) draw(); }, 200);
    } catch (error) {
      live = null;
      rest(`This browser cannot unpack the images (${error.message}).`);
    }
  };
  train.addEventListener("click", () => begun());
  every.addEventListener("click", () => {
    const left = data.teachers.map((teacher) => teacher.seed), { made } = selects.seed;
    const next = () => {
      if (!left.length) return;
      made.value = `${left.shift()}`;
      made.dispatchEvent(new Event("change", { bubbles: true }));
      begun(next);
    };
    next();
  });
  pause.addEventListener("click", () => {
    if (!live || live.done || !running) return;
    running[running.paused ? "resume" : "pause"]();
    pause.textContent = running.paused ? "Continue" : "Pause";
    says.textContent = running.paused ? "Paused." : `Training goes on: ${inWords(live.at)}.`;
    draw();
  });
  reset.addEventListener("click", () => {
    leave();
    before = null;
    gains.clear();
    resting();
  });
  const changed = () => {
    leave();
    if (isOwn(now()) && !before) resting();
    else rest(`The setting is now ${inWords(now())}.`);
  };
  for (const one of [slider, weight]) one.addEventListener("input", changed);
  for (const { made } of Object.values(selects)) made.addEventListener("change", changed);
  resting();
  return [
    element("div", { class: "controls" }, label, element("span", {}, element("label", {}, "soft_weight ", weight), weighs)),
    element("div", { class: "controls" }, ...Object.values(selects).map((one) => one.label)),
    element("div", { class: "controls" }, train, ...(data.teachers.length > 1 ? [every] : []), pause, reset, progress),
    element("div", { class: "side" }, ...charts), about, says,
    table(["student", "epoch", "training loss (nats)", "validation accuracy (%)"], numbers),
  ];
};
