"use strict";
// What the reader does: filters, hidden ways, the baseline, one case, the history. Charts are drawn as they come into view.

const MOST_PANELS = 8;
const expanded = new Set();
const form = document.getElementById("filters");

function matches(family) {
  return [...form.elements].every(({ name, value, options }) => options.length === 1 || !value || family.where[name] === value);
}

const shown = () => DATA.families.map((family, place) => [family, place]).filter(([family]) => matches(family));

const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      watcher.unobserve(target);
      drawPlot(target);
    }
  }
}, { rootMargin: "500px" });

const drawn = () => document.querySelectorAll(".panels .js-plotly-plot");

function fillPanels(panels) {
  const { chart } = panels.dataset;
  for (const place of panels.querySelectorAll(".plot")) {
    watcher.unobserve(place);
    Plotly.purge(place);
  }
  const found = shown().filter(([family]) => hasValues(family, chart));
  const some = expanded.has(chart) ? found : found.slice(0, MOST_PANELS);
  panels.replaceChildren(...some.map(([family, place]) => panel(family, place, chart)));
  if (found.length > some.length) {
    const more = element("button", { type: "button", class: "more" }, `show ${found.length - some.length} more`);
    more.addEventListener("click", () => {
      expanded.add(chart);
      fillPanels(panels);
    });
    panels.append(more);
  }
  if (!found.length) panels.append(element("p", { class: "hint" }, emptyWords(chart)));
}

function emptyWords(chart) {
  if (chart === "speed") return `${state.baseline} was not timed in turns with others here; choose another baseline.`;
  return { time: "Nothing to show.", memory: "No memory was measured here.", first: "No first call was timed here." }[chart];
}

function panel(family, place, chart) {
  const plot = element("div", { class: "plot", "data-chart": chart, "data-family": place });
  watcher.observe(plot);
  const caption = element("figcaption", {}, family.title);
  if (chart === "time") caption.append(element("small", {}, family.finding));
  return element("figure", {}, caption, plot);
}

// The ways that have a time in what is shown.
function ways() {
  const kernels = shown().flatMap(([family]) => family.lines.map(([kernel]) => kernel));
  return [...new Set(kernels.map(wayOf))].sort((one, other) => one - other);
}

function leadingWays() {
  return new Set(shown().flatMap(([family]) => [...leaders(family)].map(wayOf)));
}

function fillLegends() {
  const leading = leadingWays();
  for (const legend of document.querySelectorAll(".legend")) {
    const buttons = ways().map((way) => {
      const pressed = String(!hidden.has(way));
      const made = element("button", { type: "button", "aria-pressed": pressed, "data-way": way }, sample(way), DATA.ways[way][NAME]);
      made.addEventListener("click", () => setHidden(new Set(hidden.has(way) ? [...hidden].filter((one) => one !== way) : [...hidden, way])));
      return made;
    });
    legend.replaceChildren(...buttons, bulk("all", []), bulk("none", ways()));
    if (leading.size < ways().length) legend.append(bulk("leaders", ways().filter((way) => !leading.has(way))));
  }
}

function bulk(name, off) {
  const made = element("button", { type: "button", class: "bulk" }, name);
  made.addEventListener("click", () => setHidden(new Set(off)));
  return made;
}

function setHidden(off) {
  hidden.clear();
  for (const way of off) hidden.add(way);
  fillLegends();
  redraw();
}

function redraw() {
  for (const place of drawn()) drawPlot(place);
  drawHistory();
}

function fillBaselines() {
  const choice = document.getElementById("baseline");
  const names = ways().map((way) => DATA.ways[way][NAME]);
  if (!names.includes(state.baseline) && names.length) [state.baseline] = names;
  choice.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  choice.value = state.baseline;
}

function fillChoice(choice, groups, wanted) {
  const before = choice.value || wanted;
  choice.replaceChildren(...groups.map(([title, place, sizes]) => element("optgroup", { label: title },
    ...sizes.map((n) => element("option", { value: `${place}:${n}` }, `n = ${whole(n)}, ${title}`)))));
  if ([...choice.options].some((option) => option.value === before)) choice.value = before;
}

function chooseCase() {
  const chosen = document.getElementById("case-choice").value;
  const [family, n] = chosen.split(":").map(Number);
  if (chosen) fillCase(family, n);
  for (const cell of document.querySelectorAll(".cell")) {
    cell.classList.toggle("chosen", Number(cell.dataset.family) === family && Number(cell.dataset.n) === n);
  }
}

function apply() {
  for (const place of document.querySelectorAll("main [data-family]:not(.plot, .cell)")) {
    place.hidden = !matches(DATA.families[Number(place.dataset.family)]);
  }
  for (const block of document.querySelectorAll(".block")) {
    block.hidden = [...block.querySelectorAll("[data-family]:not(.cell)")].every((place) => place.hidden);
  }
  fillLegends();
  fillBaselines();
  document.querySelectorAll(".panels").forEach(fillPanels);
  fillChoice(document.getElementById("case-choice"), shown().map(([family, place]) => [family.title, place, family.sizes]));
  chooseCase();
  document.querySelectorAll(".step").forEach((place) => fillStep(place, matches));
  fillHistoryChoice();
  drawHistory();
}

form.addEventListener("change", apply);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("case-choice").addEventListener("change", chooseCase);
document.getElementById("baseline").addEventListener("change", ({ target }) => {
  state.baseline = target.value;
  fillPanels(document.querySelector("[data-chart=speed]"));
});
for (const cell of document.querySelectorAll(".cell")) {
  cell.addEventListener("click", () => {
    document.getElementById("case-choice").value = `${cell.dataset.family}:${cell.dataset.n}`;
    chooseCase();
    document.getElementById("case").scrollIntoView({ behavior: "smooth" });
  });
}
for (const place of document.querySelectorAll(".step")) {
  place.querySelector("select.rows").addEventListener("change", () => fillStep(place, matches));
}
document.getElementById("history-choice")?.addEventListener("change", drawHistory);
darkness.addEventListener("change", redraw);
window.addEventListener("beforeprint", () => {
  document.documentElement.classList.add("paper");
  document.querySelectorAll(".panels .plot").forEach(drawPlot);
  drawHistory();
});
window.addEventListener("afterprint", () => {
  document.documentElement.classList.remove("paper");
  redraw();
});
apply();
