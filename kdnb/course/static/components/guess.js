// A reader's guesses beside the results, judged in the words of kdnb.course.interactive.guesses.

// By key: a guess {value, choice}, or null of a reader who revealed without one. Kept here alone.
const GUESSES = new Map();
const OUTCOMES = new Map();

// As Python rounds: exactly, and half to even.
const asPython = (value, digits) => {
  const [whole, fraction] = Math.abs(value).toFixed(60).split(".");
  const cut = whole + (digits ? `.${fraction.slice(0, digits)}` : "");
  const downwards = /^50*$/.test(fraction.slice(digits)) && /[02468]$/.test(cut);
  return downwards ? `${value < 0 ? "-" : ""}${cut}` : value.toFixed(digits);
};

const inUnit = ({ ends, unit, digits }, value) => (
  `${ends[0] < 0 && value >= 0 ? "+" : ""}${asPython(value, digits)} ${unit}`.trim());

const judged = ({ digits }, { value, low, high }, guess) => {
  if (value === null) return "nothing to compare with";
  const [from, to] = [low, high].map((end) => (end === null ? NaN : Number(asPython(end, digits))));
  if (from <= guess && guess <= to) return "within the interval";
  const off = Number(asPython(guess - value, digits));
  return off ? `too ${off > 0 ? "high" : "low"} by ${asPython(Math.abs(off), digits)}` : "right";
};

const aboutGuess = (asked, result, guess) => {
  if (!guess) return "You made no guess.";
  const right = guess.choice === result.outcome ? "right" : "wrong";
  return (guess.choice ? `You predicted ${guess.choice}, which is ${right}. ` : "")
    + `Your guess: ${inUnit(asked, guess.value)} (${judged(asked, result, guess.value)}).`;
};

COMPONENTS.guess = (data, place) => {
  place.classList.add("guess");
  place.dataset.key = data.key;
  const slider = range(data.start, ...data.ends, data.step), reading = element("output");
  const choices = data.choices.map((options, i) => {
    const choice = element("select", {}, ...options.map((option) => element("option", {}, option)));
    choice.value = data.resting[i];
    return choice;
  });
  const read = () => {
    reading.textContent = inUnit(data, Number(slider.value));
    slider.setAttribute("aria-valuetext", reading.textContent);
  };
  const button = (words, act) => {
    const made = element("button", { type: "button" }, words);
    made.addEventListener("click", act);
    return made;
  };
  const says = element("p", { role: "status", tabindex: -1 });
  const end = (guess) => {
    GUESSES.set(data.key, guess);
    for (const control of [slider, ...choices]) control.disabled = true;
    for (const gone of [reveal, curtain]) gone.hidden = true;
    document.dispatchEvent(new CustomEvent("guessed", { detail: { asked: data, guess } }));
    const result = OUTCOMES.get(data.key);
    says.append(result.outcome && `Outcome: ${result.outcome}. `, "Result: ", element("strong", {}, result.result),
      `. ${aboutGuess(data, result, guess)} `);
    if (place.closest(".chapter")) says.append(element("a", { href: `#${result.place.id}` }, "See the experiment"));
    says.focus();
  };
  const reveal = button("Reveal", () => end(
    { value: Number(slider.value), choice: choices.map((choice) => choice.value).join("") }));
  const curtain = element("p", { class: "note curtain" },
    "The rest of this chapter answers the question: guess, then reveal. ",
    button("Reveal without a guess", () => end(null)));
  curtain.hidden = true; // `covered.js` shows the one that covers something
  document.addEventListener("DOMContentLoaded", () => { reveal.hidden = !OUTCOMES.has(data.key); });
  slider.addEventListener("input", read);
  read();
  return [
    element("p", { class: "question" }, data.question),
    element("div", { class: "asks" }, // reveal.js hides the buttons of its own "controls"
      ...choices.map((choice) => element("label", {}, "what happens ", choice)),
      element("span", {}, element("label", {}, "your guess ", slider), reading), reveal),
    curtain, says,
  ];
};

// A result keeps its own words; the reader's guess comes below them.
COMPONENTS.result = (data, place) => {
  place.classList.add("beside");
  place.id = `result-${OUTCOMES.size + 1}`;
  OUTCOMES.set(data.key, { ...data, place });
  const says = element("p");
  document.addEventListener("guessed", ({ detail: { asked, guess } }) => {
    if (asked.key === data.key) says.textContent = aboutGuess(asked, data, guess);
  });
  return [says];
};

// Guesses and results, each on the range of its slider.
const guessChart = (questions) => {
  const width = 400, step = 26, left = 52, right = width - 12, parts = [], said = [];
  questions.forEach((one, i) => {
    const [from, to] = one.ends, y = (i + 0.5) * step;
    const x = (v) => left + (right - left) * Math.min(1, Math.max(0, (v - from) / (to - from)));
    const draw = (name, attributes, ...text) => parts.push(element(name, { svg: 1, ...attributes }, ...text));
    const guess = GUESSES.get(one.key);
    draw("text", { x: left - 12, y: y + 5, "text-anchor": "end" }, one.key);
    draw("line", { class: "grid", x1: left, x2: right, y1: y, y2: y });
    if (one.low !== null && one.high !== null) {
      draw("line", { x1: x(one.low), x2: x(one.high), y1: y, y2: y, style: `stroke: ${BLUE}; stroke-width: 3` });
    }
    draw("path", { d: MARKS[0], transform: `translate(${x(one.value)} ${y})`, fill: BLUE });
    if (guess) draw("path", { class: "ring", d: MARKS[3], transform: `translate(${x(guess.value)} ${y})` });
    said.push(`${one.key} result ${one.result}${guess ? `, your guess ${inUnit(one, guess.value)}` : ""}`);
  });
  return element("svg", { viewBox: `0 0 ${width} ${step * questions.length}`, class: "guesses", role: "img",
    "aria-label": `Guesses and results: ${said.join("; ") || "none yet"}.` }, ...parts);
};

// Of the questions that this page asks, in any chapter.
COMPONENTS.guesses = (data) => {
  const says = element("p", { role: "status" }), chart = element("div"), rows = element("tbody");
  const draw = () => {
    const here = new Set([...document.querySelectorAll(".guess")].map((place) => place.dataset.key));
    const questions = data.questions.filter(({ key }) => here.has(key));
    const made = questions.filter((one) => GUESSES.get(one.key));
    const verdicts = new Map(made.map((one) => [one, judged(one, one, GUESSES.get(one.key).value)]));
    const count = (...starts) => [...verdicts.values()].filter((v) => starts.some((s) => v.startsWith(s))).length;
    says.textContent = `You made ${made.length} of ${questions.length} guesses: ${count("within", "right")} within `
      + `the interval or right, ${count("too low")} too low, ${count("too high")} too high.`;
    const chosen = made.filter((one) => GUESSES.get(one.key).choice);
    if (chosen.length) {
      const right = chosen.filter((one) => GUESSES.get(one.key).choice === one.outcome).length;
      says.textContent += ` Of ${chosen.length} predicted outcomes ${right} came true.`;
    }
    chart.replaceChildren(guessChart(questions.filter((one) => one.value !== null)));
    rows.replaceChildren(...questions.map((one) => {
      const guess = GUESSES.get(one.key);
      const mine = guess ? [inUnit(one, guess.value), guess.choice].filter(Boolean).join(", ") : "no guess";
      const came = [one.result, one.outcome].filter(Boolean).join(", ");
      return element("tr", {}, element("th", { scope: "row" }, one.key), ...[
        one.question.replace(/:+$/, ""), mine, came, verdicts.get(one) ?? "\u2013",
      ].map((text) => element("td", {}, text)));
    }));
  };
  for (const event of ["DOMContentLoaded", "guessed"]) document.addEventListener(event, draw);
  return [
    says,
    keyOf([
      [element("path", { svg: 1, d: `${MARKS[0]}M-8 -1.5h16v3h-16z`, fill: BLUE }), "result, with its interval"],
      [element("path", { svg: 1, d: MARKS[3], class: "ring" }), "your guess"],
    ], "on the range of each slider"),
    chart,
    table(["notebook", "question", "your guess", "result", "your guess is"], rows),
  ];
};
