"use strict";
// Text from the runs enters the page as text nodes only.
function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function figure(cell) {
  const found = /^[<+]?\s*(-?[\d.]+)/.exec(cell.textContent.trim().replace(/,/g, ""));
  return found ? Number(found[1]) : NaN;
}

function sortable(table) {
  const body = table.tBodies[0];
  for (const heading of table.tHead.rows[0].cells) {
    const column = heading.cellIndex, number = heading.classList.contains("number");
    heading.querySelector("button").addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const first = number ? "descending" : "ascending";
      const other = number ? "ascending" : "descending";
      const order = before === first ? other : first;
      for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const compare = (one, two) => {
        const a = one.cells[column], b = two.cells[column];
        if (!number) return sign * a.textContent.localeCompare(b.textContent);
        const x = figure(a), y = figure(b);
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // those without a figure are last
        return sign * (x - y);
      };
      body.append(...[...body.rows].sort(compare));
    });
  }
}

const PAGE = 20;

function browser(place, tests) {
  const state = {first: 0};
  const choose = (label, options) => {
    const select = make("select", {ariaLabel: label});
    options.forEach(([value, text]) => select.append(make("option", {value, textContent: text})));
    return [select, make("label", {textContent: label}, select)];
  };
  const bound = (label) => {
    const input = make("input", {type: "number", min: 0, ariaLabel: label});
    return [input, make("label", {textContent: label}, input)];
  };
  const [test, testLabel] = choose("Test set", tests.map((some, i) => [i, `${some.test}: ${some.methods.length} methods`]));
  const ambiguous = make("input", {type: "checkbox"});
  const ambiguousLabel = make("label", {className: "check"}, ambiguous, "Only sources with several readings");
  // Where a language has no spaces between words, lengths are in characters, shown without spaces.
  const unit = (some) => some.unit === "character" ? "characters" : "words";
  const [least, leastLabel] = bound("Reference words, from");
  const [most, mostLabel] = bound("Reference words, to");
  const [better, betterLabel] = choose("Method", []);
  const [worse, worseLabel] = choose("is better than", []);
  const [metric, metricLabel] = choose("by sentence", []);
  const count = make("p", {className: "count"});
  count.setAttribute("role", "status");
  const list = make("div", {});
  const before = make("button", {type: "button", textContent: "Previous"});
  const after = make("button", {type: "button", textContent: "Next"});
  const form = make("form", {className: "filters"}, ...(tests.length > 1 ? [testLabel] : []),
    ambiguousLabel, leastLabel, mostLabel, betterLabel, worseLabel, metricLabel);
  form.setAttribute("aria-label", "Filter examples");
  const notes = make("div", {className: "note"});
  place.append(notes, form, count, list, make("div", {className: "pages"}, before, after));

  const marked = (output, some) => {
    const space = unit(some) === "words" ? " " : "";
    const differ = new Set(output.differ), text = make("span", {});
    output.words.forEach((word, i) => text.append(i ? space : "", differ.has(i) ? make("mark", {textContent: word}) : word));
    if (!output.words.length) text.append("(empty)");
    return text;
  };
  const card = (some, example) => {
    const words = make("ul", {className: "words", dir: "auto"});
    for (const [form, ...values] of example.words) {
      const item = make("li", {}, make("span", {textContent: form}));
      values.forEach((value, i) => item.append(make("span", {className: "value", title: some.features[i], textContent: value})));
      words.append(item);
    }
    const lines = make("dl", {}, make("dt", {textContent: "reference"}), make("dd", {textContent: example.reference, dir: "auto"}));
    example.outputs.forEach((output, i) => {
      const scores = Object.entries(output.scores).map(([name, value]) => `${name} ${value.toFixed(1)}`).join(", ");
      lines.append(make("dt", {textContent: some.methods[i]}),
        make("dd", {dir: "auto"}, marked(output, some), " ", make("span", {className: "score", textContent: scores})));
    });
    const title = `Sentence ${example.number}` + (example.ambiguous ? ", several readings" : "");
    return make("article", {className: "example"}, make("h3", {textContent: title}), words, lines);
  };
  const show = () => {
    const some = tests[Number(test.value)], one = Number(better.value), two = Number(worse.value);
    const sign = some.lower_is_better.includes(metric.value) ? -1 : 1;
    const kept = some.sentences.filter((example) =>
      (!ambiguous.checked || example.ambiguous)
      && (least.value === "" || example.length >= Number(least.value))
      && (most.value === "" || example.length <= Number(most.value))
      && (one < 0 || two < 0 || sign * example.outputs[one].scores[metric.value] > sign * example.outputs[two].scores[metric.value]));
    state.first = Math.max(0, Math.min(state.first, Math.floor((kept.length - 1) / PAGE) * PAGE));
    const page = kept.slice(state.first, state.first + PAGE);
    const range = kept.length ? `, ${state.first + 1} to ${state.first + page.length} shown` : "";
    count.textContent = `${kept.length} of ${some.sentences.length} sentences${range}`;
    list.replaceChildren(...page.map((example) => card(some, example)));
    before.disabled = state.first === 0;
    after.disabled = state.first + PAGE >= kept.length;
  };
  const begin = () => {
    const some = tests[Number(test.value)];
    for (const [input, label, end] of [[least, leastLabel, "from"], [most, mostLabel, "to"]]) {
      const text = `Reference ${unit(some)}, ${end}`;
      input.ariaLabel = text;
      label.firstChild.textContent = text;
    }
    for (const select of [better, worse]) {
      select.replaceChildren(make("option", {value: -1, textContent: "any"}),
        ...some.methods.map((name, i) => make("option", {value: i, textContent: name})));
    }
    const outputs = some.sentences.length ? some.sentences[0].outputs : [];
    const shared = Object.keys(outputs.length ? outputs[0].scores : {}).filter((name) => outputs.every((output) => name in output.scores));
    metric.replaceChildren(...["chrF", ...shared.filter((name) => name !== "chrF")].map((name) => make("option", {value: name, textContent: name})));
    const values = some.features.length ? [`Under each word: ${some.features.join(", ")}.`] : [];
    const legend = "Marked: words that the reference has not, or not there. BLEU of a sentence of fewer than four tokens is 0.";
    notes.replaceChildren(...[...values, legend, ...some.notes].map((text) => make("p", {textContent: text})));
    state.first = 0;
    show();
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    state.first = 0;
    if (event.target === test) begin(); else show();
  });
  const turn = (pages) => {
    state.first += pages * PAGE;
    show();
    place.scrollIntoView();
  };
  before.addEventListener("click", () => turn(-1));
  after.addEventListener("click", () => turn(1));
  begin();
}

document.querySelectorAll("table.sortable").forEach(sortable);
const data = document.getElementById("examples-data");
if (data) browser(document.getElementById("browser"), JSON.parse(data.textContent));
