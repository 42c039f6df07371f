// The page as a whole: controls, and one drawing after the other, the latest wish winning.

const controls = document.getElementById("controls");
const LABELLED = {
  tokens: (state) => ({ ...words.tokens, all: tokensOf({ ...state, tokens: "all" }, "mean") }),
  statistic: () => words.statistic,
  quantity: () => words.quantity,
};

function showControls(state) {
  const data = dataOf(state);
  for (const key of ["run", "model", "ablation", "tokens", "statistic", "quantity"]) {
    const labels = LABELLED[key]?.(state) ?? {};
    options(controls.elements[key], CHOICES[key](state).map((value) => [value, labels[value] ?? value]), state[key]);
  }
  const [layer, head] = placeOf(state.head);
  const within = data.heads.map(placeOf).filter(([of]) => of === layer);
  options(controls.elements.layer, layersOf(data).map((of) => [of, of]), layer);
  options(controls.elements.head, within.map(([, of]) => [of, of]), head);
}

function options(select, choices, chosen) {
  select.replaceChildren(...choices.map(([value, label]) => element("option", { value }, `${label}`)));
  select.value = chosen;
}

function changed({ target }) {
  const state = current();
  const data = dataOf(state);
  const [layer, head] = placeOf(state.head);
  if (target.name === "layer") go({ head: nearest(data, Number(target.value), head) });
  else if (target.name === "head") go({ head: nameOf(layer, Number(target.value)) });
  else go({ [target.name]: target.value });
}

// The link that has the focus, which drawing replaces, and the element that it stands in.
function focused() {
  const link = document.activeElement?.closest("a[href]");
  return link && { name: link.textContent, within: link.closest("[id]") };
}

function refocus({ name, within }) {
  const links = [...within.querySelectorAll("a[href]")];
  (links.find((link) => link.textContent === name) ?? document.getElementById("head-title")).focus();
}

const main = document.querySelector("main");
let wish = 0;
let work = Promise.resolve();

function show() {
  const turn = ++wish;
  main.setAttribute("aria-busy", "true");
  // What failed has been reported; it does not keep the next wish from being drawn.
  work = work.catch(() => {}).then(async () => {
    if (turn !== wish) return;
    const state = current();
    if (location.hash !== fragment(state)) history.replaceState(null, "", fragment(state));
    const link = focused();
    showControls(state);
    await showGrid(state);
    await showHead(state);
    if (link && document.activeElement === document.body) refocus(link);
    if (turn === wish) main.setAttribute("aria-busy", "false");
  });
}

controls.addEventListener("change", changed);
document.getElementById("colour").addEventListener("change", changed);
controls.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("grid-keys").addEventListener("keydown", gridKey);
for (const details of document.querySelectorAll("details.values")) details.addEventListener("toggle", openedValues);
addEventListener("hashchange", show);
show();
