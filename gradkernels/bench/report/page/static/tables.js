"use strict";
// The tables that the script fills: all kernels of one case, and the rows of a comparison.

const CASE_HEADER = ["kernel", "time", "times the winner's", "of memory limit", "memory", "first call",
  "winner paid after", "proof"];
const STEP_HEADER = ["kernel", "case", "n", "before", "after", "after / before", "verdict"];
const MOST_ROWS = 200;

function header(names) {
  const text = (name) => ["kernel", "case", "verdict"].includes(name);
  const cells = names.map((name) => element("th", { scope: "col", class: text(name) ? "text" : "" }, name));
  return element("thead", {}, element("tr", {}, ...cells));
}

function named(kernel) {
  const [key, , way, competes] = DATA.kernels[kernel];
  if (!competes) return element("td", { class: "text" }, key);
  return element("td", { class: "text" }, sample(way), key);
}

function caseRow(kernel, point) {
  const behind = point[AT.in_turns]
    ? interval(point[AT.ratio], point[AT.ratio_low], point[AT.ratio_high])
    : "not in turns";
  const pays = point[AT.pays_after] === null ? "" : `${whole(point[AT.pays_after])} call${point[AT.pays_after] === 1 ? "" : "s"}`;
  const cells = [seconds(point[AT.seconds]), point[AT.place] === 1 ? "fastest" : behind, percent(point[AT.of_limit]),
    bytes(point[AT.peak]), seconds(point[AT.first]), pays, point[AT.proof] ? percent(point[AT.proof]) : "exact"];
  return element("tr", {}, named(kernel), ...cells.map((cell) => element("td", {}, cell)));
}

// Every kernel of one case, the fastest first, and why the others have no time.
function fillCase(family, n) {
  const rows = DATA.families[family].lines
    .flatMap(([kernel, points]) => points.filter((point) => point[AT.n] === n).map((point) => [kernel, point]))
    .sort(([, one], [, other]) => one[AT.place] - other[AT.place]);
  const body = element("tbody", {}, ...rows.map(([kernel, point]) => caseRow(kernel, point)));
  document.getElementById("case-table").replaceChildren(header(CASE_HEADER), body);
  const absent = DATA.families[family].absent.filter(([size]) => size === n);
  const notes = absent.map(([, kernel, why]) => element("li", {}, `${DATA.kernels[kernel][KEY]}: ${DATA.reasons[why]}`));
  document.getElementById("case-notes").replaceChildren(...notes);
}

function stepRow([family, n, kernel, before, after, ratio, low, high, verdict, sure]) {
  const title = DATA.families[family].title;
  const cells = [whole(n), seconds(before), seconds(after), interval(ratio, low, high)];
  return element("tr", {}, named(kernel), element("td", { class: "text" }, title),
    ...cells.map((cell) => element("td", {}, cell)),
    element("td", { class: "text" }, element("span", { class: `verdict ${verdict}` }, sure ? `surely ${verdict}` : verdict)));
}

const STEP_ROWS = {
  sure: (row) => row[9],
  decided: (row) => ["slower", "faster"].includes(row[8]),
  all: () => true,
};

// The rows of one comparison that the reader asks for, the largest change first.
function fillStep(place, matches) {
  const choice = place.querySelector("select.rows").value;
  const rows = DATA.steps[Number(place.dataset.step)].rows
    .filter((row) => matches(DATA.families[row[0]]) && STEP_ROWS[choice](row))
    .sort((one, other) => Math.abs(Math.log(other[5])) - Math.abs(Math.log(one[5])));
  const body = element("tbody", {}, ...rows.slice(0, MOST_ROWS).map(stepRow));
  const table = place.querySelector("table");
  table.replaceChildren(...(rows.length ? [header(STEP_HEADER)] : []), body);
  if (!rows.length) body.append(note({ sure: "no sure change", decided: "no change", all: "no row" }[choice]));
  if (rows.length > MOST_ROWS) body.append(note(`and ${whole(rows.length - MOST_ROWS)} more`));
}

function note(text) {
  return element("tr", {}, element("td", { class: "text", colspan: STEP_HEADER.length }, text));
}
