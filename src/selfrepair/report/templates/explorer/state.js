// What is shown, as the fragment of the address says it: run, model, ablation, tokens, statistic, quantity, head, colour,
// the share of repair below which responders are hidden, and pinned heads.

const readJson = (id) => JSON.parse(document.getElementById(id).textContent);
const { runs, words, charts } = readJson("index");
const parsed = new Map();

function dataOf(state) {
  const { data } = runs.find((run) => run.name === state.run).models.find((model) => model.name === state.model);
  if (!parsed.has(data)) parsed.set(data, readJson(data));
  return parsed.get(data);
}

const namesOf = (items) => items.map((item) => item.name);
const PRUNED = Array.from({ length: 51 }, (_, percent) => `${percent}`);

// What each part can be, given those before it.
const CHOICES = {
  run: () => namesOf(runs),
  model: (state) => namesOf(runs.find((run) => run.name === state.run).models),
  ablation: (state) => dataOf(state).ablations,
  tokens: (state) => Object.keys(dataOf(state).statistics[state.ablation]),
  statistic: (state) => Object.keys(dataOf(state).statistics[state.ablation][state.tokens]),
  quantity: (state) => Object.keys(statisticsOf(state)),
  head: (state) => dataOf(state).heads,
  colour: () => Object.keys(words.colour),
  prune: () => PRUNED,
};
const PREFERRED = { quantity: () => "self_repair", head: (state) => dataOf(state).start };

const statisticsOf = (state) => dataOf(state).statistics[state.ablation][state.tokens][state.statistic];

// What the tokens behind a statistic are called. Instead of all of them, medians are of the control sample, and so is
// everything where only selected tokens were measured.
function tokensOf(state, statistic = state.statistic) {
  const control = state.tokens === "all" && (statistic === "median" || dataOf(state).measure[state.ablation] === "selected");
  return words.tokens[control ? "control" : state.tokens];
}

const pinsOf = (state) => (state.pins ? state.pins.split(" ") : []);

// Complete a wish to a state that exists.
function settle(wanted) {
  const state = {};
  for (const [key, choices] of Object.entries(CHOICES)) {
    const possible = choices(state);
    const preferred = PREFERRED[key]?.(state);
    state[key] = [wanted[key], preferred].find((value) => possible.includes(value)) ?? possible[0];
  }
  const { heads } = dataOf(state);
  state.pins = [...new Set(pinsOf(wanted))].filter((name) => heads.includes(name)).join(" ");
  return state;
}

const fragment = (state) => `#${new URLSearchParams(state)}`;
const asked = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const current = () => settle(asked());

// Parts of a wish that did not come true.
function refused(wanted, state) {
  const others = Object.entries(wanted).filter(([key, value]) => key !== "pins" && state[key] !== value);
  const kept = pinsOf(state);
  return [...others, ...pinsOf(wanted).filter((name) => !kept.includes(name)).map((name) => ["pin", name])];
}

// Show another state; the one before is what the browser's back button returns to, unless it is to be replaced.
function go(changes, replace = false) {
  const target = fragment(settle({ ...current(), ...changes }));
  if (target === location.hash) return;
  main.setAttribute("aria-busy", "true");
  if (replace) {
    history.replaceState(null, "", target);
    show();
  } else {
    location.hash = target;
  }
}

const placeOf = (name) => name.slice(1).split("H").map(Number);
const nameOf = (layer, head) => `L${layer}H${head}`;

// The measured head nearest to `head` in a layer.
function nearest(data, layer, head) {
  const within = data.heads.filter((name) => placeOf(name)[0] === layer);
  return within.reduce((a, b) => (Math.abs(placeOf(b)[1] - head) < Math.abs(placeOf(a)[1] - head) ? b : a));
}

const layersOf = (data) => [...new Set(data.heads.map((name) => placeOf(name)[0]))];
