// Charts: specifications from the page, filled with data and words; tables with the same values; small elements.

const MISSING = "\u2013";
function number(value, digits = 3) {
  if (value === null || value === undefined) return MISSING;
  const text = value.toFixed(digits);
  return text.replace("-", /[1-9]/.test(text) ? "\u2212" : ""); // what rounds to zero has no sign
}
const percent = (value) => (value === null ? MISSING : `${(100 * value).toFixed(0)} %`);
const interval = (low, high) => (low === null ? MISSING : `${number(low)} to ${number(high)}`);
const largest = (values) => Math.max(...values.map((value) => Math.abs(value ?? 0))) || 1;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const fill = (node, filling) => {
  if (typeof node === "string") return node.replace(/\{(\w+)\}/g, (whole, key) => filling[key] ?? whole);
  if (Array.isArray(node)) return node.map((item) => fill(item, filling));
  if (node && typeof node === "object") {
    return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, fill(item, filling)]));
  }
  return node;
};

const drawn = {};

// Draw a chart in the element of its name, `height` pixels high; return its view.
async function draw(name, { datasets, filling, height, extent }) {
  drawn[name]?.finalize();
  const spec = fill(charts[name], filling);
  spec.datasets = { ...spec.datasets, ...datasets };
  spec.height = height;
  for (const parameter of spec.params ?? []) if (parameter.name === "extent") parameter.value = extent;
  const options = { mode: "vega-lite", renderer: "svg", actions: false };
  drawn[name] = await vegaEmbed(document.getElementById(name), spec, options);
  return drawn[name].view;
}

// A column of a table: what it is called, the keys of a row that it shows, and as what text, or element.
const column = (heading, keys, unit = "", text = number) => ({ heading, keys, unit, text });
const named = (heading, key, text = String) => column(heading, [key], "", text);
const INTERVAL = column("95 % interval", ["low", "high"], "logits", interval);
const MEAN = column("Mean", ["value"], "logits");

const shown = {}; // by section of the page: what it is about, units, and the rows of its table

// Rows as a table, whose first column names them.
function table(name, about, columns, rows) {
  const keys = columns.flatMap((of) => of.keys);
  shown[name] = {
    about,
    units: Object.fromEntries(columns.flatMap((of) => (of.unit ? of.keys.map((key) => [key, of.unit]) : []))),
    rows: rows.map((row) => Object.fromEntries(keys.map((key) => [key, row[key]]))),
  };
  const heading = ({ heading: text, unit }) => (unit === "logits" ? `${text} (logits)` : text);
  const cells = (row) => columns.map((of) => of.text(...of.keys.map((key) => row[key])));
  return () => element("table", {},
    element("caption", {}, about),
    element("thead", {}, element("tr", {}, ...columns.map((of) => element("th", { scope: "col" }, heading(of))))),
    element("tbody", {}, ...rows.map(cells).map(([first, ...rest]) =>
      element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((cell) => element("td", {}, cell))))),
  );
}

const showTable = (name, ...parts) => document.getElementById(name).replaceChildren(table(name, ...parts)());

const makers = new Map();

// The values of a chart, as a table that is made when it is first opened.
function valuesOf(name, ...parts) {
  const details = document.getElementById(`${name}-values`);
  const make = table(name, ...parts);
  makers.set(details, make);
  details.querySelector("div").replaceChildren(...(details.open ? [make()] : []));
}

function openedValues(event) {
  const details = event.target;
  if (details.open) details.querySelector("div").replaceChildren(makers.get(details)());
}
