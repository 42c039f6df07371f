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
  else go({ [target.name]: target.value }, target.name === "prune");
}

// What the page shows now, as a file: numbers with their units, and the state that the address names.
function download() {
  const { run, model, ...state } = current();
  const text = JSON.stringify({ run, model, state, sections: shown }, null, 1);
  const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  element("a", { href, download: `${run}-${model}-${state.head}.json` }).click();
  URL.revokeObjectURL(href);
}

// The link or button that has the focus, which drawing replaces, and the element that it stands in.
const ACTIVE = "a[href], button";
const nameOfActive = (active) => active.ariaLabel ?? active.textContent;
function focused() {
  const active = document.activeElement?.closest(ACTIVE);
  return active && { name: nameOfActive(active), within: active.closest("[id]") };
}

function refocus({ name, within }) {
  const found = [...within.querySelectorAll(ACTIVE)].find((active) => nameOfActive(active) === name);
  (found ?? document.getElementById("head-title")).focus();
}

function showRefused(parts) {
  const notice = document.getElementById("refused");
  notice.hidden = !parts.length;
  const said = parts.map((part) => part.join(" ")).join(", ");
  notice.textContent = `The address asks for what is not here: ${said}. It was ignored.`;
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
    const wanted = asked();
    const state = settle(wanted);
    showRefused(refused(wanted, state));
    if (location.hash !== fragment(state)) history.replaceState(null, "", fragment(state));
    const link = focused();
    for (const section of Object.keys(shown)) delete shown[section];
    showControls(state);
    await showGrid(state);
    await showHead(state);
    if (link && document.activeElement === document.body) refocus(link);
    if (turn === wish) main.setAttribute("aria-busy", "false");
  });
}

controls.addEventListener("change", changed);
document.getElementById("colour").addEventListener("change", changed);
document.getElementById("prune").addEventListener("input", changed);
document.getElementById("pin").addEventListener("click", () => togglePin(current().head));
document.getElementById("download").addEventListener("click", () => work.then(download));
controls.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("grid-keys").addEventListener("keydown", gridKey);
for (const details of document.querySelectorAll("details.values")) details.addEventListener("toggle", openedValues);
addEventListener("hashchange", show);
show();
