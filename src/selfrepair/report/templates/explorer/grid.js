// The grid of heads: a click, an arrow key, or a link in the table of values chooses one.

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
  const [layer, head] = placeOf(state.head);
  const shown = GRID_KEYS.map((key) => state[key]).join("\n");
  if (shown === gridShown) {
    await drawn.grid.view.data("chosen", [{ layer, head }]).runAsync();
  } else {
    const values = statisticsOf(state)[state.quantity];
    const filling = {
      model: state.model,
      quantity: words.quantity[state.quantity],
      unit: words.unit[state.statistic],
      about: describe(state),
    };
    const view = await draw("grid", {
      datasets: { cells: cells(data, values), chosen: [{ layer, head }] },
      filling,
      height: Math.max(60, Math.min(LARGEST_CELL * data.n_layers, HIGHEST)),
      extent: largest(values.map(([value]) => value)),
    });
    view.addEventListener("click", (event, item) => {
      if (item?.datum?.value !== undefined && item.datum.value !== null) go({ head: item.datum.name });
    });
    gridShown = shown;
  }
  document.getElementById("grid-caption").textContent =
    `${state.model}: ${describe(state)}. Green: above 0; purple: below.` +
    (data.heads.length < data.n_layers * data.n_heads ? " Grey: heads that were not measured." : "");
  document.getElementById("status").textContent = status(state, data);
  valuesOf("grid", () => gridTable(state, data));
}

function cells(data, values) {
  const found = [];
  for (let layer = 0; layer < data.n_layers; layer++) {
    for (let head = 0; head < data.n_heads; head++) {
      const name = nameOf(layer, head);
      const [value, low, high] = values[data.heads.indexOf(name)] ?? [null, null, null];
      const label = `${name}: ${number(value)}, 95 % interval ${interval(low, high)}`;
      found.push({ layer, head, name, label, value, low, high });
    }
  }
  return found;
}

function gridTable(state, data) {
  const values = statisticsOf(state)[state.quantity];
  const rows = data.heads.map((name, index) => [
    element("a", { href: fragment({ ...state, head: name }) }, name),
    number(values[index][0]),
    interval(values[index][1], values[index][2]),
  ]);
  return table(`${describe(state)}. A head's name is a link that shows it.`, ["Head", words.unit[state.statistic], "95 % interval"], rows);
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
