"use strict";
// The page of `raysweep try`.  Whatever comes from a text or a model becomes a text node, never markup.
// Positions that the server speaks of count code points; `Array.from(text)` is the text cut that way.

const get = (id) => document.getElementById(id);
const BITS = 1 / Math.LN2;
let run = null;
let marked = new Set(); // numbers of the words that are blanked
let words = []; // {start, stop} in code points

function make(tag, content = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = content;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// --- asking the server

async function ask(path, body) {
  for (let tries = 0; ; tries += 1) {
    const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const answer = await fetch(path, options);
    if (answer.status === 503 && tries < 5) {
      get("status").textContent = "The server is busy; asking again …";
      await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("retry-after") || 2)));
      continue;
    }
    const failed = { detail: `The server failed (${answer.status}); its terminal says why.` };
    const value = await answer.json().catch(() => failed);
    if (!answer.ok) throw new Error(value.detail);
    return value;
  }
}

// Whether a model is another one than that of its name when the page was opened.
function isOther({ name, digest }) {
  return run.models.every((each) => each.name !== name || each.digest !== digest);
}

// Show what the server answers, unless the text was changed meanwhile.
async function during(button, doing, path, body, show) {
  button.disabled = true;
  get("problem").textContent = "";
  get("status").textContent = doing;
  const began = performance.now();
  try {
    const answer = await ask(path, body);
    if (get("text").value !== body.text) throw new Error("The text was changed meanwhile; ask again.");
    if (answer.models.some(isOther)) throw new Error("The models were trained again since this page was opened; load the page again.");
    show(answer);
    get("status").textContent = `Done in ${((performance.now() - began) / 1000).toFixed(1)} s.`;
  } catch (error) {
    get("status").textContent = "";
    get("problem").textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

// --- tabs, as the ARIA practices have them

const tabs = [...document.querySelectorAll("[role=tab]")];

function choose(tab) {
  for (const each of tabs) {
    each.setAttribute("aria-selected", String(each === tab));
    each.tabIndex = each === tab ? 0 : -1;
    get(each.getAttribute("aria-controls")).hidden = each !== tab;
  }
  get("problem").textContent = get("status").textContent = "";
  const frame = get("report");
  if (tab.id === "tab-report" && run && run.has_report && !frame.src) {
    frame.src = "/report/report.html";
    frame.hidden = false;
  }
}

for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  });
}

// A group of elements with one tab stop, among which the arrow keys move.
function moveAmong(elements, onMove = () => {}) {
  elements.forEach((element, number) => {
    element.tabIndex = number === 0 ? 0 : -1;
    element.addEventListener("focus", () => onMove(number));
    element.addEventListener("keydown", (event) => {
      const target = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: elements.length - 1 }[event.key];
      if (target === undefined || !elements[target]) return;
      event.preventDefault();
      element.tabIndex = -1;
      elements[target].tabIndex = 0;
      elements[target].focus();
    });
  });
}

// --- filling blanks

function showWords() {
  const text = get("text").value;
  const box = get("words");
  const length = Array.from(text).length;
  get("count").textContent = `${length.toLocaleString("en")} characters.`;
  get("filled").replaceChildren(); // what was said of another text
  get("level").hidden = get("surprise").hidden = true;
  marked = new Set();
  words = [];
  const shown = [];
  let place = 0;
  for (const piece of text.split(/([\p{L}\p{N}]+(?:['’\-][\p{L}\p{N}]+)*)/u)) {
    const size = Array.from(piece).length;
    if (shown.length % 2) words.push({ start: place, stop: place + size });
    shown.push(piece);
    place += size;
  }
  const buttons = [];
  box.replaceChildren(
    ...shown.map((piece, number) => {
      if (number % 2 === 0) return document.createTextNode(piece);
      const button = make("button", piece, { type: "button", "aria-pressed": "false" });
      const word = buttons.push(button) - 1;
      button.addEventListener("click", () => {
        if (!marked.delete(word)) marked.add(word);
        button.setAttribute("aria-pressed", String(marked.has(word)));
      });
      return button;
    }),
  );
  moveAmong(buttons);
}

function blanks() {
  const characters = Array.from(get("text").value);
  const found = [];
  for (const number of [...marked].sort((a, b) => a - b)) {
    const last = found[found.length - 1];
    const { start, stop } = words[number];
    if (last && /^[ \u00a0]+$/.test(characters.slice(last.stop, start).join(""))) {
      last.stop = stop;
      last.words += 1;
    } else found.push({ start, stop, words: 1 });
  }
  return found.map(({ start, stop, words: count }) => ({
    start, stop, kind: count === 1 ? "word" : count <= 8 ? "ngram" : "sentence",
  }));
}

function percent(probability) {
  if (probability > 0.9995) return "over 99.9 %";
  if (probability >= 0.001) return `${(100 * probability).toFixed(1)} %`;
  if (probability < 1e-6) return "below 1 in a million";
  return `1 in ${Number((1 / probability).toPrecision(2)).toLocaleString("en")}`;
}

function filledText(sample) {
  const characters = Array.from(sample.text);
  const item = make("li");
  let end = 0;
  for (const answer of sample.answers) {
    item.append(characters.slice(end, answer.start).join(""));
    const mark = make("mark", characters.slice(answer.start, answer.stop).join(""));
    if (!answer.finished) mark.className = "cut";
    item.append(mark);
    end = answer.stop;
  }
  item.append(characters.slice(end).join(""));
  const odds = sample.answers.map((answer) => percent(answer.probability) + (answer.finished ? "" : ", unfinished"));
  item.append(make("span", `probability: ${odds.join(" · ")}`, { class: "odds" }));
  return item;
}

function title(name) {
  const model = run.models.find((each) => each.name === name);
  return model.level === null ? `${name} (general)` : model.level === name ? name : `${name} (${model.level})`;
}

function card(name, ...content) {
  const heading = make("h3", title(name));
  const box = make("article", "", { class: "card", "aria-label": title(name) });
  box.append(heading, ...content);
  return box;
}

get("fill-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const body = {
    text: get("text").value,
    samples: Number(get("samples").value),
    temperature: Number(get("temperature").value),
    seed: Number(get("seed").value),
  };
  if (marked.size) body.blanks = blanks();
  if (get("first-word").value) body.first_word = get("first-word").value;
  if (get("max-words").value) body.max_words = Number(get("max-words").value);
  during(get("fill"), "The models write …", "/api/fill", body, (answer) => {
    get("filled").replaceChildren(
      ...answer.models.map((model) => {
        const list = make("ol");
        list.append(...model.samples.map(filledText));
        return card(model.name, list);
      }),
    );
  });
});

get("clear").addEventListener("click", showWords);
get("text").addEventListener("input", showWords);

// --- surprise and level

function showLevels(levels) {
  const sentence = get("level-sentence");
  get("level").hidden = false;
  get("level-table").hidden = levels === null;
  if (levels === null) {
    sentence.textContent = `This run cannot tell levels: ${run.no_levels}`;
    return;
  }
  const ranked = Object.entries(levels).sort((a, b) => b[1] - a[1]);
  const [[best, chance], [second, other]] = ranked;
  const sure = chance >= 0.9 ? "" : ` The next likeliest is ${second}: ${percent(other)}.`;
  const known = run.level_accuracy;
  const share = (value) => `${(100 * value).toFixed(1)} %`;
  const limits = known && known.low !== null
    ? ` (${Number((100 * known.confidence).toFixed(1))} % interval ${share(known.low)} to ${share(known.high)})`
    : "";
  const checked = known
    ? ` The model with the lowest perplexity was that of the right level for ${share(known.value)} of ${known.documents.toLocaleString("en")} test documents${limits}, read without what their masks hide; other texts may differ.`
    : " How often these models know the right level was not measured.";
  sentence.textContent = `Most like ${best}: ${percent(chance)}.${sure}${checked} Short texts say little.`;
  const rows = Object.entries(levels).map(([level, probability]) => {
    const row = make("tr");
    const cell = make("td");
    const bar = make("meter", "", { min: 0, max: 1, value: probability, "aria-hidden": "true" });
    cell.append(bar);
    row.append(make("th", level, { scope: "row" }), make("td", percent(probability)), cell);
    return row;
  });
  get("level-table").tBodies[0].replaceChildren(...rows);
}

function bits(nats) {
  return nats === null ? "not predicted (first)" : `${(nats * BITS).toFixed(1)} bits`;
}

function showSurprise(answer) {
  get("surprise").hidden = false;
  const texts = [];
  let pointed = 0;
  function point(number) {
    for (const spans of texts) {
      spans[pointed].classList.remove("same");
      spans[number].classList.add("same");
    }
    pointed = number;
    const told = answer.models.map((model) => `${title(model.name)} ${bits(model.surprisal[number])}`);
    get("numbers").textContent = `“${answer.tokens[number].trim() || "space"}”: ${told.join(" · ")}`;
  }
  get("coloured").replaceChildren(
    ...answer.models.map((model) => {
      const paragraph = make("p", "", { class: "coloured", role: "group", "aria-label": `Tokens as ${title(model.name)} reads them` });
      const spans = answer.tokens.map((token, number) => {
        const nats = model.surprisal[number];
        const heat = nats === null ? 0 : Math.min(7, Math.floor((nats * BITS) / 2));
        const span = make("span", token, { class: `heat${heat}`, role: "img", "aria-label": `${token}: ${bits(nats)}` });
        span.addEventListener("mouseenter", () => point(number));
        return span;
      });
      moveAmong(spans, point);
      texts.push(spans);
      paragraph.append(...spans);
      const perToken = (model.nats * BITS) / model.tokens;
      const totals = `${perToken.toFixed(2)} bits a token · perplexity ${Number(Math.exp(model.nats / model.tokens).toPrecision(3)).toLocaleString("en")}`;
      return card(model.name, make("p", totals, { class: "totals" }), paragraph);
    }),
  );
  get("numbers").textContent = "Move over a word to see how much each model is surprised by it.";
}

get("read-form").addEventListener("submit", (event) => {
  event.preventDefault();
  during(get("read"), "The models read …", "/api/read", { text: get("text").value }, (answer) => {
    showLevels(answer.levels);
    showSurprise(answer);
  });
});

// --- at the start

(async () => {
  showWords();
  try {
    run = await ask("/api/run");
    get("run").textContent = run.run;
    get("synthetic").hidden = !run.is_synthetic;
    get("text").maxLength = run.max_characters;
    get("no-report").hidden = run.has_report;
    get("report-link").hidden = !run.has_report;
  } catch (error) {
    get("problem").textContent = error.message;
  }
})();
