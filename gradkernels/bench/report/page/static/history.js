"use strict";
// The history of one case: the time of each kernel in each source, with the steps that are surely changes.

function historyCases() {
  const cases = new Map();
  for (const [family, n] of DATA.series) {
    if (matches(DATA.families[family])) cases.set(`${family}:${n}`, [family, n]);
  }
  return [...cases.values()].sort((one, other) => one[0] - other[0] || one[1] - other[1]);
}

// Of a case, the sure changes from one measurement of a kernel to the next.
function sureSteps(family, n) {
  return DATA.steps.flatMap(({ before, after, rows }) => rows
    .filter((row) => row[0] === family && row[1] === n && row[9])
    .map((row) => ({ before, after, row })));
}

function fillHistoryChoice() {
  const choice = document.getElementById("history-choice");
  if (!choice) return;
  const groups = new Map();
  for (const [family, n] of historyCases()) {
    if (!groups.has(family)) groups.set(family, [DATA.families[family].title, family, []]);
    groups.get(family)[2].push(n);
  }
  const [most] = historyCases()
    .map(([family, n]) => [`${family}:${n}`, sureSteps(family, n).length])
    .sort((one, other) => other[1] - one[1]);
  fillChoice(choice, [...groups.values()], most?.[0]);
}

function historyTraces(family, n) {
  const series = DATA.series.filter((one) => one[0] === family && one[1] === n && !hidden.has(wayOf(one[2])));
  const steps = sureSteps(family, n);
  const traces = [];
  const marks = []; // above all lines
  for (const [, , kernel, points] of series) {
    const way = wayOf(kernel);
    traces.push({
      x: points.map(([source]) => source),
      y: points.map(([, time]) => time),
      text: points.map(([source, time, passes]) => [
        `<b>${plain(DATA.kernels[kernel][WAY])}</b>`, plain(DATA.sources[source].label), seconds(time), `passes: ${passes}`,
      ].join("<br>")),
      hoverinfo: "text",
      mode: "lines+markers",
      line: { color: colourOf(way), width: 2, dash: DATA.ways[way][DASH] },
      marker: { color: colourOf(way), size: 7, symbol: DATA.ways[way][MARKER] },
    });
    marks.push(stepTrace(points, steps.filter(({ row }) => row[2] === kernel), kernel));
  }
  return [...traces, ...marks];
}

function stepTrace(points, steps, kernel) {
  const marks = steps.flatMap(({ before, after, row }) => {
    const place = points.findIndex(([source]) => source === after);
    return place > 0 && points[place - 1][0] === before ? [[points[place], row]] : [];
  });
  const slower = (row) => row[8] === "slower";
  return {
    x: marks.map(([[source]]) => source),
    y: marks.map(([[, time]]) => time),
    text: marks.map(([, row]) => `<b>${plain(DATA.kernels[kernel][WAY])}</b><br>surely ${row[8]}: ${interval(row[5], row[6], row[7])}`),
    hoverinfo: "text",
    mode: "markers",
    marker: {
      size: 15,
      symbol: marks.map(([, row]) => (slower(row) ? "triangle-up" : "triangle-down")),
      color: marks.map(([, row]) => styleOf(slower(row) ? "--slower" : "--faster")),
      line: { color: styleOf("--back"), width: 1.5 },
    },
  };
}

function drawHistory() {
  const place = document.getElementById("history-chart");
  if (!place) return;
  const chosen = document.getElementById("history-choice").value;
  const [family, n] = chosen.split(":").map(Number);
  const sources = DATA.sources.map(({ label, commit, when }) => `${when.slice(0, 10)}<br>${plain(commit || label)}`);
  const xaxis = {
    tickvals: sources.map((_, source) => source),
    ticktext: sources,
    range: [-0.4, sources.length - 0.6],
    automargin: true,
    ...lines(),
  };
  const traces = chosen ? historyTraces(family, n) : [];
  show(place, traces, { xaxis, yaxis: valueAxis("time", traces.flatMap(({ y }) => y)), height: 420 });
}
