// The grid of heads: a click, an arrow key, or a link in the table of values chooses one; pinned heads are compared.

const GRID_KEYS = ["run", "model", "ablation", "tokens", "statistic", "quantity"];
const LARGEST_CELL = 30; // px
const HIGHEST = 560; // px
let gridShown = "";

function describe(state) {
  return `${words.quantity[state.quantity]} (${words.statistic[state.statistic]}), ${tokensOf(state)}, ` +
    `${state.ablation} ablation`;
}

function status(state, data) {
  const index = data.heads.indexOf(state.head);
  const [value, low, high] = statisticsOf(state)[state.quantity][index];
  const [tokens, documents, effective] = data.counts[state.ablation][state.tokens][state.statistic][index];
  const unit = { logits: "logits", ratio: "of the direct effect" }[words.unit[state.statistic]];
  return `${state.head}: ${describe(state)}: ${number(value)} ${unit}, 95 % interval ${interval(low, high)}; ` +
    `${tokens} tokens of ${documents} documents, worth ${Math.round(effective)} of equal length.`;
}

async function showGrid(state) {
  const data = dataOf(state);
  const key = GRID_KEYS.map((name) => state[name]).join("\n");
  if (key === gridShown) {
    for (const [name, framed] of Object.entries(frames(state))) drawn.grid.view.data(name, framed);
    await drawn.grid.view.runAsync();
  } else {
    const values = statisticsOf(state)[state.quantity];
    const about = { quantity: words.quantity[state.quantity], unit: words.unit[state.statistic], about: describe(state) };
    await drawHeads("grid", state, (name) => values[data.heads.indexOf(name)], about);
    gridShown = key;
  }
  document.getElementById("grid-caption").textContent =
    `${state.model}: ${describe(state)}. Green: above 0; purple: below.` +
    (data.heads.length < data.n_layers * data.n_heads ? " Grey: heads that were not measured." : "") +
    (state.pins ? " Dashed: pinned heads." : "");
  document.getElementById("status").textContent = status(state, data);
  const [unit, values] = [words.unit[state.statistic], statisticsOf(state)[state.quantity]];
  valuesOf("grid", `${describe(state)}. A head's name is a link that shows it.`,
    [linked(state), column(words.quantity[state.quantity], ["value"], unit), { ...INTERVAL, unit }],
    data.heads.map((head, index) => ({ head, ...estimated(values[index]) })));
  showPins(state, data);
}

const estimated = ([value, low, high]) => ({ value, low, high });
const linked = (state) => named("Head", "head", (head) => element("a", { href: fragment({ ...state, head }) }, head));

// Heads that are framed in a chart of all heads.
function frames(state) {
  const places = (names) => names.map(placeOf).map(([layer, head]) => ({ layer, head }));
  return { chosen: places([state.head]), pinned: places(pinsOf(state)) };
}

// Draw all heads of a model, coloured by what `of` has of each: value and interval, or null. A click chooses a head.
async function drawHeads(name, state, of, filling) {
  const data = dataOf(state);
  const cells = Array.from({ length: data.n_layers * data.n_heads }, (_, i) => {
    const [layer, head] = [Math.floor(i / data.n_heads), i % data.n_heads];
    const place = nameOf(layer, head);
    const [value = null, low = null, high = null] = of(place) ?? [];
    const label = `${place}: ${number(value)}` + (low === null ? "" : `, 95 % interval ${interval(low, high)}`);
    return { layer, head, name: place, label, value, low, high };
  });
  const view = await draw(name, {
    datasets: { cells, ...frames(state) },
    filling: { model: state.model, ...filling },
    height: Math.max(60, Math.min(LARGEST_CELL * data.n_layers, HIGHEST)),
    extent: largest(cells.map(({ value }) => value)),
  });
  view.addEventListener("click", (event, item) => {
    if (data.heads.includes(item?.datum?.name) && item.datum.value !== null) go({ head: item.datum.name });
  });
}

function togglePin(head) {
  const pins = pinsOf(current());
  go({ pins: (pins.includes(head) ? pins.filter((name) => name !== head) : [...pins, head]).join(" ") });
}

function showPins(state, data) {
  const pins = pinsOf(state);
  document.getElementById("pins-shown").hidden = !pins.length;
  document.getElementById("pins").replaceChildren();
  if (!pins.length) return;
  const unit = words.unit[state.statistic];
  const quantities = Object.entries(statisticsOf(state));
  const rows = pins.map((head) => Object.fromEntries([["head", head], ...quantities.flatMap(([quantity, values]) =>
    Object.entries(estimated(values[data.heads.indexOf(head)])).map(([key, value]) => [`${quantity} ${key}`, value]))]));
  const columns = quantities.map(([quantity]) =>
    column(words.quantity[quantity], ["value", "low", "high"].map((key) => `${quantity} ${key}`), unit,
      (value, low, high) => `${number(value)} (${interval(low, high)})`.replace(/ (?!\()/g, "\u00a0")));
  const unpin = (head) =>
    element("button", { type: "button", ariaLabel: `Unpin ${head}`, onclick: () => togglePin(head) }, "\u00d7");
  showTable("pins", `${words.statistic[state.statistic]}, ${tokensOf(state)}, ${state.ablation} ablation, with 95 % intervals`,
    [linked(state), named("", "head", unpin), ...columns], rows);
}

// Arrow keys move within the layer, or to the next measured layer; Home and End go to the ends of the layer.
function gridKey(event) {
  const state = current();
  const data = dataOf(state);
  const [layer, head] = placeOf(state.head);
  const layers = layersOf(data);
  const within = data.heads.filter((name) => placeOf(name)[0] === layer);
  const at = within.indexOf(state.head);
  const above = layers[layers.indexOf(layer) + 1];
  const below = layers[layers.indexOf(layer) - 1];
  const target = {
    ArrowLeft: within[at - 1],
    ArrowRight: within[at + 1],
    ArrowUp: above === undefined ? undefined : nearest(data, above, head),
    ArrowDown: below === undefined ? undefined : nearest(data, below, head),
    Home: within[0],
    End: within.at(-1),
  };
  if (!(event.key in target) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (target[event.key] !== undefined) go({ head: target[event.key] }, true);
}
