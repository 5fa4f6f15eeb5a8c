"use strict";
// What each chart draws: the lines of a family of cases over n, or a dot per kernel where there is only one n.

const hidden = new Set(); // ways that the reader has switched off
const state = { baseline: DATA.baseline };
const MANY = 12; // lines, of which more make most of them fade
const LEADERS = 8;
const MOST_TICKS = 8;

const CHARTS = {
  time: { of: (point) => point[AT.seconds], title: "time per call", unit: (value) => tick(value) },
  speed: { of: speedOf, title: "times as fast", unit: times },
  memory: { of: (point) => point[AT.peak] || null, title: "memory", unit: (value) => bytes(value) },
  first: { of: (point) => point[AT.first], title: "first call", unit: (value) => tick(value) },
};

function speedOf(point, family) {
  const base = baselineAt(family, point[AT.n]);
  // Times of different processes, taken at different moments, make no ratio.
  return base && base[AT.in_turns] && point[AT.in_turns] ? base[AT.seconds] / point[AT.seconds] : null;
}

function baselineAt(family, n) {
  const lines = family.lines.filter(([kernel]) => DATA.ways[wayOf(kernel)][NAME] === state.baseline);
  return lines.flatMap(([, points]) => points).find((point) => point[AT.n] === n);
}

function hoverOf(point, kernel) {
  const told = [`<b>${plain(DATA.kernels[kernel][WAY])}</b>`, `n = ${whole(point[AT.n])}`];
  told.push(`${seconds(point[AT.seconds])} (passes: ${seconds(point[AT.low])} to ${seconds(point[AT.high])})`);
  if (point[AT.place] === 1) told.push("fastest");
  else if (!point[AT.in_turns]) told.push("not timed in turns with the winner");
  else if (point[AT.ratio] !== null) {
    told.push(`${interval(point[AT.ratio], point[AT.ratio_low], point[AT.ratio_high])} times the winner's`);
  }
  if (point[AT.of_limit] !== null) told.push(`${percent(point[AT.of_limit])} of the memory limit`);
  if (point[AT.peak] !== null) told.push(`${bytes(point[AT.peak])} at its peak`);
  if (point[AT.first] !== null) told.push(`first call ${seconds(point[AT.first])}`);
  return told.join("<br>");
}

// The kernels that are drawn in full: of many those with the best places.
function leaders(family) {
  const best = family.lines.map(([kernel, points]) => {
    const places = points.map((point) => point[AT.place]);
    return [kernel, Math.min(...places), places.reduce((sum, place) => sum + place, 0) / places.length];
  });
  best.sort((one, other) => one[1] - other[1] || one[2] - other[2]);
  const count = best.length > MANY ? LEADERS : best.length;
  return new Set(best.slice(0, count).map(([kernel]) => kernel));
}

function lineTraces(family, chart) {
  const leading = leaders(family);
  const bands = [];
  const lines = [];
  for (const [kernel, points] of family.lines) {
    const way = wayOf(kernel);
    const drawn = points.filter((point) => CHARTS[chart].of(point, family) !== null);
    if (hidden.has(way) || !drawn.length) continue;
    const full = leading.has(kernel);
    const ns = drawn.map((point) => point[AT.n]);
    if (chart === "time" && full) bands.push(band(ns, drawn, way));
    lines.push({
      x: ns,
      y: drawn.map((point) => CHARTS[chart].of(point, family)),
      text: drawn.map((point) => hoverOf(point, kernel)),
      name: plain(DATA.kernels[kernel][WAY]),
      hoverinfo: "text",
      mode: "lines+markers",
      opacity: full ? 1 : 0.35,
      line: { color: colourOf(way), width: full ? 2 : 1, dash: DATA.ways[way][DASH] },
      marker: { color: colourOf(way), size: full ? 7 : 5, symbol: DATA.ways[way][MARKER] },
    });
  }
  return [...bands, ...lines];
}

function band(ns, points, way) {
  const low = points.map((point) => point[AT.low]);
  const high = points.map((point) => point[AT.high]);
  return {
    x: [...ns, ...ns.slice().reverse()],
    y: [...high, ...low.reverse()],
    fill: "toself",
    fillcolor: colourOf(way, 0.16),
    line: { width: 0 },
    mode: "lines",
    hoverinfo: "skip",
  };
}

function dashed(pairs, name, unit) {
  return {
    x: pairs.map(([n]) => n),
    y: pairs.map(([, value]) => value),
    text: pairs.map(([n, value]) => `${name}<br>n = ${whole(n)}<br>${unit(value)}`),
    name,
    hoverinfo: "text",
    mode: "lines",
    line: { color: styleOf("--quiet"), width: 2, dash: "dash" },
  };
}

function crossingTrace(family) {
  return {
    x: family.crossings.map(([n]) => n),
    y: family.crossings.map(([, value]) => value),
    text: family.crossings.map(([, , told]) => plain(told)),
    name: "crossover",
    hoverinfo: "text",
    mode: "markers",
    marker: { symbol: "diamond-open", size: 14, color: styleOf("--text"), line: { width: 2 } },
  };
}

function besides(family, chart) {
  const found = [];
  if (chart === "time" && family.limits.length) found.push(dashed(family.limits, "memory limit", seconds));
  if (chart === "memory" && family.least.length) found.push(dashed(family.least, "fewest bytes", bytes));
  if (chart === "time" && family.crossings.length) found.push(crossingTrace(family));
  if (chart === "speed") found.push(dashed(family.sizes.map((n) => [n, 1]), "the baseline", (value) => `${value}×`));
  return found;
}

// One n: a row per kernel, the best at the top.
function dotTraces(family, chart) {
  const rows = family.lines
    .map(([kernel, points]) => [kernel, points[0], CHARTS[chart].of(points[0], family)])
    .filter(([kernel, , value]) => value !== null && !hidden.has(wayOf(kernel)));
  rows.sort((one, other) => (chart === "speed" ? one[2] - other[2] : other[2] - one[2]));
  const spread = rows.map(([, point, value]) => [point[AT.high] - value, value - point[AT.low]]);
  return [{
    x: rows.map(([, , value]) => value),
    y: rows.map(([kernel]) => plain(DATA.kernels[kernel][WAY])),
    text: rows.map(([kernel, point]) => hoverOf(point, kernel)),
    hoverinfo: "text",
    mode: "markers",
    marker: {
      color: rows.map(([kernel]) => colourOf(wayOf(kernel))),
      symbol: rows.map(([kernel]) => DATA.ways[wayOf(kernel)][MARKER]),
      size: 11,
    },
    ...(chart === "time" && {
      error_x: {
        array: spread.map(([up]) => up),
        arrayminus: spread.map(([, down]) => down),
        color: styleOf("--quiet"),
        thickness: 1.5,
      },
    }),
  }];
}

function verticals(family, chart) {
  const at = { time: family.limits, memory: family.least, speed: [[0, 1]] }[chart] ?? [];
  const line = { color: styleOf("--quiet"), width: 2, dash: "dash" };
  return at.map(([, value]) => ({ type: "line", x0: value, x1: value, yref: "paper", y0: 0, y1: 1, line }));
}

// Where ticks stand from one value to another: powers of ten, of a short range 1, 2 and 5 times those.
function ticks(values) {
  const known = values.filter((value) => value > 0);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const steps = high < 4 * low ? [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9] : high < 300 * low ? [1, 2, 5] : [1];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    found.push(...steps.map((step) => step * 10 ** power));
  }
  const inside = found.filter((value) => value >= low / 1.3 && value <= high * 1.3);
  return thinned(inside);
}

// No more ticks than there is room for.
function thinned(found) {
  const every = Math.ceil(found.length / MOST_TICKS);
  return found.filter((_, place) => place % every === 0);
}

// A logarithmic axis on which every tick has its unit.
function axis(title, at, unit) {
  return {
    ...lines(),
    title: { text: title },
    automargin: true,
    type: "log",
    tickvals: at,
    ticktext: at.map(unit),
  };
}

const lines = () => ({ gridcolor: styleOf("--line"), linecolor: styleOf("--line"), zeroline: false });

function layout(more) {
  return {
    margin: { l: 8, r: 12, t: 8, b: 8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: styleOf("--text"), size: 12 },
    hoverlabel: { align: "left", bgcolor: styleOf("--back"), font: { color: styleOf("--text") } },
    hovermode: "closest",
    showlegend: false,
    ...more,
  };
}

const CONFIG = { responsive: true, displayModeBar: false };

const onPaper = () => document.documentElement.classList.contains("paper");

// Put a chart into its place, which is as high as the chart. While a page is being printed nothing tells the chart that its
// place is as wide as paper, so that is said; a chart that was told a width does not follow the window any more.
function show(place, traces, more) {
  place.style.height = `${more.height}px`;
  if (place.layout?.width) Plotly.purge(place);
  return Plotly.react(place, traces, layout({ ...more, ...(onPaper() && { width: place.clientWidth }) }), CONFIG);
}

const valueAxis = (chart, values) => axis(CHARTS[chart].title, ticks(values), CHARTS[chart].unit);

// Draw one chart into its place; the place names the family and the chart.
function drawPlot(place) {
  const { chart } = place.dataset;
  const family = DATA.families[Number(place.dataset.family)];
  if (family.sizes.length > 1) {
    const traces = [...lineTraces(family, chart), ...besides(family, chart)];
    const xaxis = axis("samples n", thinned(family.sizes), short);
    const yaxis = valueAxis(chart, traces.flatMap(({ y }) => y));
    return show(place, traces, { xaxis, yaxis, height: 330 });
  }
  const traces = dotTraces(family, chart);
  const value = valueAxis(chart, traces[0].x);
  const names = { ...lines(), type: "category", automargin: true };
  const height = 90 + 22 * Math.max(3, traces[0].y.length);
  return show(place, traces, { xaxis: value, yaxis: names, height, shapes: verticals(family, chart) });
}

// Whether a chart would have anything in it.
function hasValues(family, chart) {
  const others = family.lines.filter(([kernel]) => chart !== "speed" || DATA.ways[wayOf(kernel)][NAME] !== state.baseline);
  return others.some(([, points]) => points.some((point) => CHARTS[chart].of(point, family) !== null));
}
