// Two students trained in the page as `kdnb.training.loop.fit` trains them: torch's random numbers,
// the same batches and views, loss, AdamW and one-cycle schedule. The text of this function is also
// the source of a worker, so it uses nothing from outside.
function playgroundEngine() {
  const SIDE = 28, PIXELS = SIDE * SIDE;

  // torch's generator on the CPU, MT19937: 32 random bits at each call.
  const mersenne = (seed) => {
    const state = new Uint32Array(624);
    let at = 624;
    state[0] = seed;
    for (let i = 1; i < 624; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    return () => {
      if (at === 624) {
        for (let k = 0; k < 624; k++) {
          const y = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7fffffff);
          state[k] = state[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
        }
        at = 0;
      }
      let y = state[at++];
      y ^= y >>> 11;
      y ^= (y << 7) & 0x9d2c5680;
      y ^= (y << 15) & 0xefc60000;
      return (y ^ (y >>> 18)) >>> 0;
    };
  };
  const randperm = (n, random) => {
    const made = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = 0; i < n - 1; i++) {
      const other = i + random() % (n - i), kept = made[i];
      made[i] = made[other];
      made[other] = kept;
    }
    return made;
  };
  const randint = (high, n, random) => Int32Array.from({ length: n }, () => random() % high);
  // As torch, which rounds to 32 bits only at the end.
  const uniform = (bound, n, random) => Float32Array.from({ length: n },
    () => ((random() & 0xffffff) / 2 ** 24) * 2 * bound - bound);

  // As kdnb.data.augmentation.translations: [down, right], first the unmoved.
  const translations = (most) => {
    const made = [[0, 0]];
    for (let y = -most; y <= most; y++) for (let x = -most; x <= most; x++) if (y || x) made.push([y, x]);
    return made;
  };

  // As torch's OneCycleLR in kdnb.training.loop.one_cycle: rate and first beta of each step.
  const oneCycle = (step, steps, rate) => {
    const peak = (steps > 5 ? 0.2 : 0.1) * steps - 1, end = steps - 1;
    const between = (from, to, share) => to + (from - to) / 2 * (Math.cos(Math.PI * share) + 1);
    if (step <= peak) {
      const share = step / peak;
      return { rate: between(rate / 25, rate, share), beta: between(0.95, 0.85, share) };
    }
    const share = (step - peak) / (end - peak);
    return { rate: between(rate, rate / 25e4, share), beta: between(0.85, 0.95, share) };
  };

  // Rows of numbers without zeros: ``index`` and ``value`` of row r begin at ``start[r]``.
  const sparse = (rows, most) => ({
    start: new Int32Array(rows + 1), index: new Int32Array(rows * most), value: new Float32Array(rows * most),
  });
  const compressed = (pixels) => {
    const rows = pixels.length / PIXELS;
    const made = sparse(rows, PIXELS);
    let n = 0;
    for (let r = 0; r < rows; r++) {
      for (let i = 0; i < PIXELS; i++) if (pixels[r * PIXELS + i]) {
        made.index[n] = i;
        made.value[n++] = pixels[r * PIXELS + i] / 255;
      }
      made.start[r + 1] = n;
    }
    return { start: made.start, index: made.index.slice(0, n), value: made.value.slice(0, n) };
  };
  // Some images, each moved by its view.
  const gather = (images, chosen, views, moves, from, count, made) => {
    let n = 0;
    for (let r = 0; r < count; r++) {
      const image = chosen[from + r], [down, right] = moves[views[from + r]];
      for (let k = images.start[image]; k < images.start[image + 1]; k++) {
        const column = images.index[k] % SIDE + right, place = images.index[k] + SIDE * down + right;
        if (column >= 0 && column < SIDE && place >= 0 && place < PIXELS) {
          made.index[n] = place;
          made.value[n++] = images.value[k];
        }
      }
      made.start[r + 1] = n;
    }
  };
  const relu = (dense, width, count, made) => {
    let n = 0;
    for (let r = 0; r < count; r++) {
      for (let i = 0; i < width; i++) if (dense[r * width + i] > 0) {
        made.index[n] = i;
        made.value[n++] = dense[r * width + i];
      }
      made.start[r + 1] = n;
    }
  };
  // The same numbers by column: index is then the row.
  const transposed = (rows, count, columns, made) => {
    const { start, index, value } = rows, next = made.start;
    next.fill(0);
    for (let k = 0; k < start[count]; k++) next[index[k] + 2]++;
    for (let i = 2; i < columns + 2; i++) next[i] += next[i - 1];
    for (let r = 0; r < count; r++) for (let k = start[r]; k < start[r + 1]; k++) {
      const to = next[index[k] + 1]++;
      made.index[to] = r;
      made.value[to] = value[k];
    }
  };

  // A dense layer, its weights input by input, so that an input that is 0 skips all of its own.
  const layer = (inputs, outputs, batch, random) => {
    const bound = Math.fround(Math.sqrt(3) * (Math.sqrt(2 / 6) / Math.sqrt(inputs)));
    const drawn = uniform(bound, inputs * outputs, random), weight = new Float32Array(inputs * outputs);
    for (let o = 0; o < outputs; o++) for (let i = 0; i < inputs; i++) weight[i * outputs + o] = drawn[o * inputs + i];
    const bias = uniform(Math.fround(1 / Math.sqrt(inputs)), outputs, random);
    const zeros = () => new Float32Array(inputs * outputs), few = () => new Float32Array(outputs);
    return {
      inputs, outputs, weight, bias, moments: [zeros(), zeros()], biasMoments: [few(), few()],
      rows: sparse(batch, inputs), columns: { ...sparse(batch, inputs), start: new Int32Array(inputs + 2) },
      made: new Float32Array(batch * outputs), deltas: new Float32Array(batch * outputs),
      gradient: new Float32Array(outputs), seen: new Uint8Array(inputs),
    };
  };
  const forward = ({ weight, bias, outputs, rows, made }, count) => {
    const { start, index, value } = rows;
    for (let r = 0; r < count; r++) {
      const to = r * outputs, end = start[r + 1];
      for (let j = 0; j < outputs; j++) made[to + j] = bias[j];
      let k = start[r];
      for (; k + 3 < end; k += 4) { // four inputs for each reading and writing of the sums
        const a = value[k], b = value[k + 1], c = value[k + 2], d = value[k + 3];
        const p = index[k] * outputs, q = index[k + 1] * outputs, s = index[k + 2] * outputs, t = index[k + 3] * outputs;
        for (let j = 0; j < outputs; j++) {
          made[to + j] += a * weight[p + j] + b * weight[q + j] + c * weight[s + j] + d * weight[t + j];
        }
      }
      for (; k < end; k++) {
        const a = value[k], p = index[k] * outputs;
        for (let j = 0; j < outputs; j++) made[to + j] += a * weight[p + j];
      }
    }
  };
  // Gradients by the inputs that are not 0: ReLU lets no others through.
  const backward = ({ weight, inputs, outputs, rows, deltas }, count, made) => {
    const { start, index } = rows;
    made.fill(0, 0, count * inputs);
    for (let r = 0; r < count; r++) {
      const from = r * outputs, to = r * inputs, end = start[r + 1];
      let k = start[r];
      for (; k + 3 < end; k += 4) {
        const p = index[k] * outputs, q = index[k + 1] * outputs, s = index[k + 2] * outputs, t = index[k + 3] * outputs;
        let a = 0, b = 0, c = 0, d = 0;
        for (let j = 0; j < outputs; j++) {
          const delta = deltas[from + j];
          a += delta * weight[p + j];
          b += delta * weight[q + j];
          c += delta * weight[s + j];
          d += delta * weight[t + j];
        }
        made[to + index[k]] = a;
        made[to + index[k + 1]] = b;
        made[to + index[k + 2]] = c;
        made[to + index[k + 3]] = d;
      }
      for (; k < end; k++) {
        let a = 0;
        for (let j = 0; j < outputs; j++) a += deltas[from + j] * weight[index[k] * outputs + j];
        made[to + index[k]] = a;
      }
    }
  };
  // AdamW for the parameters from ``at``, one for each gradient.
  const adamw = (parameters, [first, second], at, gradient, { keep, size, beta, root }) => {
    for (let j = 0; j < gradient.length; j++) {
      const g = gradient[j], i = at + j;
      const m = first[i] + (g - first[i]) * (1 - beta), v = 0.999 * second[i] + 0.001 * g * g;
      first[i] = m;
      second[i] = v;
      parameters[i] = parameters[i] * keep - size * m / (Math.sqrt(v) / root + 1e-8);
    }
  };
  // The gradient of one input's weights, from its numbers other than 0 in all rows.
  const gradientOf = (gradient, value, index, from, end, deltas) => {
    const outputs = gradient.length;
    gradient.fill(0);
    let k = from;
    for (; k + 3 < end; k += 4) {
      const a = value[k], b = value[k + 1], c = value[k + 2], d = value[k + 3];
      const p = index[k] * outputs, q = index[k + 1] * outputs, s = index[k + 2] * outputs, t = index[k + 3] * outputs;
      for (let j = 0; j < outputs; j++) {
        gradient[j] += a * deltas[p + j] + b * deltas[q + j] + c * deltas[s + j] + d * deltas[t + j];
      }
    }
    for (; k < end; k++) {
      const a = value[k], p = index[k] * outputs;
      for (let j = 0; j < outputs; j++) gradient[j] += a * deltas[p + j];
    }
  };
  const update = (one, count, rates) => {
    const { inputs, outputs, deltas, gradient, columns, seen } = one, { start, index, value } = columns;
    gradient.fill(0);
    for (let r = 0; r < count; r++) for (let j = 0; j < outputs; j++) gradient[j] += deltas[r * outputs + j];
    adamw(one.bias, one.biasMoments, 0, gradient, rates);
    transposed(one.rows, count, inputs, columns);
    for (let i = 0; i < inputs; i++) {
      if (start[i] === start[i + 1] && !seen[i] && rates.keep === 1) continue; // so far always 0: its weights stay
      seen[i] = 1;
      gradientOf(gradient, value, index, start[i], start[i + 1], deltas);
      adamw(one.weight, one.moments, i * outputs, gradient, rates);
    }
  };

  // softmax(logits / T) of the numbers from ``at``, into ``made``; returns the log of the denominator.
  const soften = (logits, at, classes, temperature, made, to) => {
    let top = -Infinity, sum = 0;
    for (let c = 0; c < classes; c++) if (logits[at + c] > top) top = logits[at + c];
    for (let c = 0; c < classes; c++) sum += made[to + c] = Math.exp((logits[at + c] - top) / temperature);
    for (let c = 0; c < classes; c++) made[to + c] /= sum;
    return top / temperature + Math.log(sum);
  };

  // What both students see: ``data`` has uint8 pixels and labels of training and validation images,
  // int8 logits of the teacher by view and image, and their scale.
  const prepared = (data) => ({
    ...data,
    train: { ...data.train, images: compressed(data.train.pixels) },
    val: { ...data.val, images: compressed(data.val.pixels) },
    logits: Float32Array.from(data.logits, (whole) => whole * data.scale),
  });

  // A student to train. ``settings``: the images (their places in the data), hidden width, seed,
  // epochs and validations; the recipe (batch, rate, smoothing, decay, translate); and, with a
  // teacher, temperature and weight. `work` does a small part of the training; ``history`` has loss
  // and, at some epochs, validation accuracy.
  const student = (data, settings) => {
    const { classes, train, val, logits } = data;
    const { chosen, hidden, seed, epochs, validations, batch, rate, smoothing, decay, translate } = settings;
    const weight = settings.weight ?? 0, temperature = settings.temperature ?? 1;
    const count = chosen.length, all = train.labels.length, moves = translations(translate);
    const initial = mersenne(seed), random = mersenne(seed);
    const sizes = [PIXELS, hidden, hidden, classes], most = Math.min(batch, count);
    const layers = sizes.slice(1).map((outputs, i) => layer(sizes[i], outputs, Math.max(most, 64), initial));
    const last = layers[layers.length - 1], steps = epochs * Math.ceil(count / batch);
    const targets = new Float32Array(weight ? logits.length : 0), entropies = new Float32Array(targets.length / classes);
    for (let r = 0; r < entropies.length; r++) {
      soften(logits, r * classes, classes, temperature, targets, r * classes);
      for (let c = 0; c < classes; c++) {
        const p = targets[r * classes + c];
        if (p > 0) entropies[r] += p * Math.log(p);
      }
    }
    const soft = new Float32Array(classes), hard = new Float32Array(classes);
    const history = [], unmoved = new Int32Array(val.labels.length), every = Int32Array.from(unmoved, (_, i) => i);
    let done = 0, at = 0, losses = [], images, views, checked = -1, right = 0;

    const answer = (from, ids, seen, shifts, size) => {
      gather(ids === every ? val.images : train.images, ids, seen, shifts, from, size, layers[0].rows);
      layers.forEach((one, l) => {
        if (l) relu(layers[l - 1].made, one.inputs, size, one.rows);
        forward(one, size);
      });
    };
    // Mean loss of a batch, and its gradient by the logits.
    const criticise = (from, size) => {
      let loss = 0;
      for (let r = 0; r < size; r++) {
        const to = r * classes, label = train.labels[images[from + r]];
        const log = soften(last.made, to, classes, 1, hard, 0);
        for (let c = 0; c < classes; c++) {
          const target = (c === label ? 1 - smoothing : 0) + smoothing / classes;
          loss += (1 - weight) * target * (log - last.made[to + c]) / size;
          last.deltas[to + c] = (1 - weight) * (hard[c] - target) / size;
        }
        if (!weight) continue;
        const row = views[from + r] * all + images[from + r];
        const softened = soften(last.made, to, classes, temperature, soft, 0);
        let divergence = entropies[row];
        for (let c = 0; c < classes; c++) {
          const target = targets[row * classes + c];
          divergence -= target * (last.made[to + c] / temperature - softened);
          last.deltas[to + c] += weight * temperature * (soft[c] - target) / size;
        }
        loss += weight * temperature ** 2 * divergence / size;
      }
      return loss;
    };
    const step = () => {
      if (!at) {
        images = randperm(count, random).map((i) => chosen[i]);
        views = randint(moves.length, count, random);
      }
      const size = Math.min(batch, count - at), { rate: now, beta } = oneCycle(done, steps, rate);
      done++;
      answer(at, images, views, moves, size);
      losses.push(criticise(at, size));
      for (let l = layers.length - 1; l > 0; l--) backward(layers[l], size, layers[l - 1].deltas);
      const rates = { keep: 1 - now * decay, size: now / (1 - beta ** done), beta, root: Math.sqrt(1 - 0.999 ** done) };
      for (const one of layers) update(one, size, rates);
      at = (at + size) % count;
      if (at) return;
      const epoch = history.length + 1;
      history.push({ epoch, loss: losses.reduce((a, b) => a + b, 0) / losses.length });
      losses = [];
      // As kdnb.training.history.is_validated.
      if (Math.floor(epoch * validations / epochs) > Math.floor((epoch - 1) * validations / epochs)) checked = 0;
    };
    const check = () => {
      const size = Math.min(64, val.labels.length - checked);
      answer(checked, every, unmoved, [[0, 0]], size);
      for (let r = 0; r < size; r++) {
        const z = last.made.subarray(r * classes, (r + 1) * classes);
        right += z.indexOf(Math.max(...z)) === val.labels[checked + r];
      }
      checked += size;
      if (checked < val.labels.length) return;
      history[history.length - 1].accuracy = right / checked;
      checked = -1;
      right = 0;
    };
    return {
      layers, history, step,
      work: () => (checked < 0 ? step() : check()),
      get done() { return history.length === epochs && checked < 0; },
    };
  };

  // Train students in turns of some milliseconds. ``report`` gets a student's number, its new epochs
  // and whether it is finished. Returns the switches.
  const run = (data, settings, turn, report) => {
    const students = [], reported = settings.map(() => 0);
    let ready, number = 0, timer;
    const act = (one) => {
      const end = performance.now() + turn;
      while (!one.done && performance.now() < end) one.work();
      const known = Math.max(0, one.history.length - !one.done); // the last one's accuracy may follow
      report(number, one.history.slice(reported[number], known), one.done);
      reported[number] = known;
    };
    const go = () => {
      if (!ready) ready = prepared(data);
      else if (!students[number]) students[number] = student(ready, settings[number]);
      else act(students[number]);
      for (let i = 0; i < settings.length; i++) {
        number = (number + 1) % settings.length;
        if (!students[number]?.done) break;
      }
      if (!students[number]?.done) timer = setTimeout(go);
    };
    const resume = () => { timer = setTimeout(go); };
    resume();
    return { pause: () => clearTimeout(timer), resume };
  };
  // In a worker: one student.
  const serve = () => {
    let running;
    onmessage = ({ data: { kind, data, settings } }) => {
      if (kind === "start") running = run(data, [settings], 50, (_, epochs, done) => postMessage({ epochs, done }));
      else running[kind]();
    };
  };
  return { mersenne, randperm, randint, uniform, prepared, student, run, serve };
}
