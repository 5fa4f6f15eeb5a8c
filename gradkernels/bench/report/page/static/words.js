"use strict";
// What the page knows, and how its numbers and names are written. The units are those of the tables of gradkernels.

const DATA = JSON.parse(document.getElementById("data").textContent);
// The position of each value in a point, by its name.
const AT = Object.fromEntries(DATA.point.map((name, position) => [name, position]));
const [KEY, WAY, PLAIN, COMPETES] = [0, 1, 2, 3]; // of DATA.kernels
const [NAME, LIGHT, DARK, DASH, MARKER] = [0, 1, 2, 3, 4]; // of DATA.ways

const UNITS = [["s", 1], ["ms", 1e-3], ["µs", 1e-6], ["ns", 1e-9]];
const BYTES = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3], ["B", 1]];

function inUnits(value, units, write) {
  if (value === null) return "";
  // What is a little less than a unit is written as one.
  const [unit, size] = units.find(([, least]) => value >= 0.99995 * least) ?? units[units.length - 1];
  return `${write(value / size)} ${unit}`;
}

const fourDigits = (value) => (value >= 999.95 ? whole(Math.round(value)) : value.toPrecision(4));
const threeDigits = (value) => String(Number(value.toPrecision(3)));

const seconds = (value) => inUnits(value, UNITS, fourDigits);
const bytes = (value) => inUnits(value, BYTES, threeDigits);
const whole = (value) => (value === null ? "" : value.toLocaleString("en-US"));
const times = (value) => `${threeDigits(value)}×`;
const tick = (value) => inUnits(value, UNITS, threeDigits);

// A number of samples on a tick: 1024, 10k, 1M.
function short(value) {
  const [unit, size] = [["M", 1e6], ["k", 1e3], ["", 1]].find(([, size]) => value >= size && value % size === 0) ?? ["", 1];
  return value < 1e4 ? String(value) : `${value / size}${unit}`;
}

// With three decimals where the ratio is close to one. A bound beyond 100 is not written out beside a small ratio.
function interval(ratio, low, high) {
  if (ratio === null) return "";
  const decimals = ratio > 1 / 1.1 && ratio < 1.1 ? 3 : 2;
  const write = (value) => {
    if (value === null || (value >= 100 && ratio < 100)) return ">100";
    return value < 100 ? value.toFixed(decimals) : whole(Math.round(value));
  };
  return `${write(ratio)} [${write(low)}, ${write(high)}]`;
}

function percent(share) {
  if (share === null) return "";
  const value = 100 * share;
  if (value >= 10) return `${value.toFixed(0)}%`;
  return value >= 0.01 ? `${Number(value.toPrecision(2))}%` : "<0.01%";
}

// Plotly reads a few tags in its texts; names of kernels and files are no tags.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const wayOf = (kernel) => DATA.kernels[kernel][PLAIN];

const darkness = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => darkness.matches && !document.documentElement.classList.contains("paper");

function colourOf(way, alpha = 1) {
  const hex = DATA.ways[way][isDark() ? DARK : LIGHT];
  const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${parts.join(",")},${alpha})`;
}

// The line style and the marker of a way beside its colour, as small as a letter.
const DASHES = { solid: "", dash: "6 3", dot: "2 2", dashdot: "6 2 2 2" };
const SHAPES = {
  circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
  square: "M-3.5-3.5h7v7h-7z",
  diamond: "M0-5l5 5l-5 5l-5-5z",
  "triangle-up": "M0-5l5 8h-10z",
  "triangle-down": "M0 5l5-8h-10z",
  cross: "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
  x: "M-4-2l2-2l2 2l2-2l2 2l-2 2l2 2l-2 2l-2-2l-2 2l-2-2l2-2z",
  star: "M0-5.5l1.5 3.7h4l-3.2 2.5l1.2 4l-3.5-2.4l-3.5 2.4l1.2-4l-3.2-2.5h4z",
};

function sample(way) {
  const [, light, dark, dash, marker] = DATA.ways[way];
  const part = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const made = part("svg", { class: "sample", style: `--light: ${light}; --dark: ${dark}`, viewBox: "-14 -7 28 14" });
  made.append(part("path", { class: "line", d: "M-14 0h28", "stroke-dasharray": DASHES[dash] ?? "" }));
  made.append(part("path", { class: "dot", d: SHAPES[marker] ?? SHAPES.circle }));
  return made;
}

const styleOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Make an element; children that are strings become text, never markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
