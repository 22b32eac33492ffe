// A drawing pad, and the networks' probabilities for the drawing, computed here in the page.
COMPONENTS.pad = (data) => {
  const SIDE = 28, UNIT = 10, PAD = SIDE * UNIT; // pixels of an image, and of the pad for each
  const bytes = (base64) => {
    const text = atob(base64), made = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) made[i] = text.charCodeAt(i); // a million values: no callbacks
    return made;
  };

  // Images are stored channels last, so that a row of a kernel meets `run` adjacent values.
  const convolve = ({ values, height, width, channels }, { size, weights, scales, biases }) => {
    const outputs = scales.length, run = size * channels, each = size * run;
    const rows = height - size + 1, columns = width - size + 1;
    const made = new Float32Array(rows * columns * outputs);
    const row = (o) => Math.min(o, outputs - 1);
    for (let y = 0, at = 0; y < rows; y++) for (let x = 0; x < columns; x++, at += outputs) {
      for (let o = 0; o < outputs; o += 4) { // four sums at a time: each addition waits for the last one
        const p = row(o), q = row(o + 1), r = row(o + 2), s = row(o + 3);
        let a = 0, b = 0, c = 0, d = 0;
        for (let k = 0; k < size; k++) {
          const from = ((y + k) * width + x) * channels, skipped = k * run;
          for (let i = 0; i < run; i++) {
            const value = values[from + i], w = skipped + i;
            a += value * weights[p * each + w];
            b += value * weights[q * each + w];
            c += value * weights[r * each + w];
            d += value * weights[s * each + w];
          }
        }
        made[at + p] = scales[p] * a + biases[p];
        made[at + q] = scales[q] * b + biases[q];
        made[at + r] = scales[r] * c + biases[r];
        made[at + s] = scales[s] * d + biases[s];
      }
    }
    return { values: made, height: rows, width: columns, channels: outputs };
  };
  const pool = ({ values, height, width, channels }, { size, stride }) => {
    const rows = Math.floor((height - size) / stride) + 1, columns = Math.floor((width - size) / stride) + 1;
    const made = new Float32Array(rows * columns * channels).fill(-Infinity);
    for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
      for (let j = 0; j < size; j++) for (let k = 0; k < size; k++) {
        const from = ((y * stride + j) * width + x * stride + k) * channels, at = (y * columns + x) * channels;
        for (let c = 0; c < channels; c++) if (values[from + c] > made[at + c]) made[at + c] = values[from + c];
      }
    }
    return { values: made, height: rows, width: columns, channels };
  };
  const act = {
    convolution: convolve,
    dense: (image, layer) => convolve(image, { ...layer, size: 1 }), // of an image of one pixel
    pooling: pool,
    relu: (image) => ({ ...image, values: image.values.map((v) => (v > 0 ? v : 0)) }),
    flatten: ({ values }) => ({ values, height: 1, width: 1, channels: values.length }),
  };
  const networks = data.networks.map(({ name, layers }) => ({
    name,
    layers: layers.map((layer) => (layer.weights
      ? { ...layer, weights: new Float32Array(new Int8Array(bytes(layer.weights).buffer)) } : layer)),
  }));
  const logitsOf = ({ layers }, pixels) => {
    const image = { values: Float32Array.from(pixels, (p) => p / 255), height: SIDE, width: SIDE, channels: 1 };
    return Array.from(layers.reduce((now, layer) => act[layer.kind](now, layer), image).values);
  };

  const trace = (brush, strokes, width) => {
    brush.lineWidth = width;
    brush.lineCap = brush.lineJoin = "round";
    brush.beginPath();
    for (const [[x, y], ...rest] of strokes) {
      brush.moveTo(x, y);
      brush.lineTo(x + 0.01, y); // a dot is a stroke too
      for (const point of rest) brush.lineTo(...point);
    }
    brush.stroke();
  };
  // As MNIST frames its digits: fitted into a box of 20 pixels, its centre of mass in the middle.
  const framed = (strokes) => {
    const ends = [0, 1].map((axis) => strokes.flat().reduce(
      ([low, high], point) => [Math.min(low, point[axis]), Math.max(high, point[axis])], [Infinity, -Infinity]));
    const scale = (20 - data.pen) / Math.max(...ends.map(([low, high]) => high - low), data.pen * UNIT);
    const brush = element("canvas", { width: SIDE, height: SIDE }).getContext("2d", { willReadFrequently: true });
    const ink = (shift) => {
      brush.clearRect(0, 0, SIDE, SIDE);
      brush.setTransform(scale, 0, 0, scale, ...ends.map(
        ([low, high], axis) => SIDE / 2 + shift[axis] - scale * (low + high) / 2));
      trace(brush, strokes, data.pen / scale);
      brush.resetTransform();
      return brush.getImageData(0, 0, SIDE, SIDE).data.filter((_, i) => i % 4 === 3); // opacity
    };
    const found = ink([0, 0]), mass = found.reduce((a, b) => a + b, 0);
    const room = (SIDE - 20) / 2;
    return ink([(i) => i % SIDE, (i) => Math.floor(i / SIDE)].map((place) => {
      const centre = found.reduce((sum, v, i) => sum + v * place(i), 0) / mass;
      return Math.max(-room, Math.min(room, (SIDE - 1) / 2 - centre));
    }));
  };

  // The points of a stroke that keep it within a seventh of an image's pixel (Douglas and Peucker).
  const simplified = (points) => {
    const [x, y] = points[0], [u, v] = points.at(-1), square = (u - x) ** 2 + (v - y) ** 2 || 1;
    let farthest = 0, most = 1.5;
    points.forEach(([a, b], i) => {
      const along = Math.max(0, Math.min(1, ((a - x) * (u - x) + (b - y) * (v - y)) / square));
      const off = Math.hypot(a - x - along * (u - x), b - y - along * (v - y));
      if (off > most) [farthest, most] = [i, off];
    });
    if (!farthest) return points.length > 1 ? [[x, y], [u, v]] : points;
    return [...simplified(points.slice(0, farthest + 1)), ...simplified(points.slice(farthest)).slice(1)];
  };
  // Strokes as text: three characters for each point, on a grid of two units, and dots between strokes.
  const GRID = 2, ACROSS = PAD / GRID + 1;
  const encoded = (strokes) => strokes.map((points) => simplified(points).map((point) => {
    const [i, j] = point.map((v) => Math.round(Math.max(0, Math.min(PAD, v)) / GRID));
    return (i * ACROSS + j).toString(36).padStart(3, "0");
  }).join("")).join(".");
  const decoded = (text) => {
    const strokes = text.split(".");
    if (!strokes.every((stroke) => /^([0-9a-f][0-9a-z]{2})+$/.test(stroke))) return [];
    return strokes.map((stroke) => stroke.match(/.../g).map((point) => parseInt(point, 36)).map(
      (at) => [Math.floor(at / ACROSS) * GRID, at % ACROSS * GRID]));
  };

  const examples = data.images.map(({ pixels }) => bytes(pixels));
  const pad = element("canvas", { class: "pad", width: PAD, height: PAD, role: "img", "aria-label":
    "Drawing pad: draw here with a mouse, a finger or a pen. By keyboard, choose an example from the image menu." });
  const small = element("canvas", { class: "pixels", width: SIDE, height: SIDE, role: "img" });
  const choice = menu("image", ["your drawing", ...data.images.map(({ name }) => name)]);
  const drawn = element("input", { type: "hidden", "data-state": "drawing" });
  const clear = element("button", { type: "button" }, "Clear");
  const { slider, read, label } = temperatureSlider(data);
  const says = element("p", { role: "status" });
  const charts = networks.map(({ name }) => ({ name, chart: element("div") }));
  const numbers = element("tbody");
  const cut = shortened(data.classes);
  let strokes = [], logits = null, pending = 0;

  const soften = () => {
    const t = read();
    const answers = networks.map((_, n) => (logits ? softmax(logits[n], t) : data.classes.map(() => 0)));
    const words = answers.map((p, n) => {
      const top = p.indexOf(Math.max(...p));
      return `${networks[n].name} ${data.classes[top]} with ${p[top].toFixed(3)}`;
    });
    says.textContent = logits ? `At T = ${t.toPrecision(3)}: ${words.join("; ")}.`
      : "The pad is empty: draw a digit, or choose an example.";
    charts.forEach(({ chart }, n) => chart.replaceChildren(bars(cut, [
      { values: answers[n], look: (i) => filled(answers[n][i] === Math.max(...answers[n]) ? BLUE : ORANGE) },
    ], logits ? `At T = ${t.toPrecision(3)}: ${words[n]}.` : `${networks[n].name}: no answer yet`, 1)));
    numbers.replaceChildren(...(logits ? data.classes : []).map((name, i) => row(name, answers.map((p) => p[i]))));
  };
  const answer = () => {
    const chosen = choice.selectedIndex;
    const pixels = chosen > 0 ? examples[chosen - 1] : strokes.length ? framed(strokes) : new Uint8Array(SIDE * SIDE);
    const shown = new ImageData(Uint8ClampedArray.from({ length: 4 * SIDE * SIDE }, // ink on paper
      (_, i) => (i % 4 === 3 ? 255 : 255 - pixels[i >> 2])), SIDE, SIDE);
    small.getContext("2d").putImageData(shown, 0, 0);
    small.setAttribute("aria-label", `${choice.value}, as the networks see it`);
    const brush = pad.getContext("2d");
    brush.clearRect(0, 0, PAD, PAD);
    brush.imageSmoothingEnabled = false;
    if (chosen > 0) brush.drawImage(small, 0, 0, PAD, PAD);
    else trace(brush, strokes, data.pen * UNIT);
    logits = chosen > 0 || strokes.length ? networks.map((network) => logitsOf(network, pixels)) : null;
    soften();
  };
  const soon = () => { // one answer per frame of the screen, however fast the hand moves
    pending ||= requestAnimationFrame(() => { pending = 0; answer(); });
  };
  const at = (event) => [event.offsetX * PAD / pad.clientWidth, event.offsetY * PAD / pad.clientHeight];
  let drawing = false;
  pad.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    pad.setPointerCapture(event.pointerId);
    if (choice.selectedIndex > 0) strokes = [];
    choice.selectedIndex = 0;
    strokes.push([at(event)]);
    drawing = true;
    soon();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!drawing || !event.isPrimary) return;
    strokes.at(-1).push(...event.getCoalescedEvents().map(at), at(event));
    soon();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, (event) => {
      if (drawing && event.isPrimary) redraw(encoded(strokes));
      drawing = drawing && !event.isPrimary;
    });
  }
  clear.addEventListener("click", () => {
    choice.selectedIndex = 0;
    redraw("");
  });
  // What is drawn is what a link to it shows.
  const redraw = (text) => {
    drawn.value = text;
    drawn.dispatchEvent(new Event("change", { bubbles: true }));
  };
  drawn.addEventListener("change", () => {
    strokes = decoded(drawn.value);
    if (!strokes.length) drawn.value = "";
    answer();
  });
  choice.addEventListener("change", answer);
  slider.addEventListener("input", soften);
  choice.selectedIndex = 1;
  answer();
  return [
    element("div", { class: "controls" }, element("label", {}, "image ", choice), drawn, clear, label),
    element("div", { class: "side" }, pad,
      element("div", {}, small, element("p", { class: "note" }, "the networks' input")),
      element("div", { class: "chart" }, says)),
    element("div", { class: "side" }, ...charts.map(({ name, chart }) => element("div", { class: "chart" },
      chart, element("p", { class: "note" }, name)))),
    table(["class", ...networks.map(({ name }) => name)], numbers),
  ];
};
