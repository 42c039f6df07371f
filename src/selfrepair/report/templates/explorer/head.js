// The chosen head: its effects, what repairs it, who repairs it, its tokens, its neurons.

async function showHead(state) {
  const data = dataOf(state);
  document.getElementById("head-title").textContent = `Head ${state.head} of ${state.model}`;
  document.getElementById("head-about").textContent =
    `${state.ablation} ablation, ${tokensOf(state, "mean")}; run ${state.run}.`;
  document.getElementById("pin").textContent = pinsOf(state).includes(state.head) ? "Unpin" : "Pin, to compare";
  showEffects(state, data);
  showLens(state, data);
  showContexts(state, data);
  await Promise.all([
    showSplit(state, data),
    showResponders(state, data),
    showHandOff(state, data),
    showScatter(state, data),
    showNeurons(state, data),
  ]);
}

// Value and interval of a quantity for the chosen head.
function estimate(state, data, statistic, quantity) {
  const of = data.statistics[state.ablation][state.tokens][statistic]?.[quantity];
  return of ? of[data.heads.indexOf(state.head)] : [null, null, null];
}

function showEffects(state, data) {
  const rows = Object.entries(words.quantity).map(([quantity, effect]) => ({
    effect,
    ...estimated(estimate(state, data, "mean", quantity)),
    median: estimate(state, data, "median", quantity)[0],
    share: estimate(state, data, "share", quantity)[0],
  }));
  const ofMedians = tokensOf(state, "median");
  const sampled = ofMedians === tokensOf(state, "mean") ? "" : `; medians are of the ${ofMedians}`;
  showTable("effects", `Effects of ${state.head}; shares are ratios of sums${sampled}.`,
    [named("Effect", "effect"), MEAN, INTERVAL, column("Median", ["median"], "logits"),
      column("Share of direct effect", ["share"], "ratio")], rows);
}

async function showSplit(state, data) {
  const quantities = { ...words.part, self_repair: "total" };
  const parts = Object.entries(quantities).map(([quantity, part]) =>
    ({ part, ...estimated(estimate(state, data, "mean", quantity)) }));
  const summary = parts.map(({ part, value }) => `${part} ${number(value)} logits`).join(", ");
  await draw("split", { datasets: { parts }, filling: { head: state.head, summary }, height: 130 });
  valuesOf("split", "Parts of self-repair.", [named("Part", "part"), MEAN, INTERVAL], parts);
}

// Responders that are not hidden: those that make a large enough share of the sum of all sizes. Says how many there are.
function large(name, responders, { prune }) {
  const sum = (rows, size = (value) => value) => rows.reduce((total, { value }) => total + size(value), 0);
  const total = sum(responders, Math.abs);
  const kept = responders.filter(({ value }) => 100 * Math.abs(value) >= prune * total);
  document.getElementById(`${name}-kept`).textContent =
    `${kept.length} of ${responders.length} are shown: ${percent(total ? sum(kept, Math.abs) / total : 1)} of all responses ` +
    `by size. They sum to ${number(sum(kept))} logits, all to ${number(sum(responders))}.`;
  return kept;
}

async function showResponders(state, data) {
  const index = data.heads.indexOf(state.head);
  const [own] = placeOf(state.head);
  const all = Object.entries(words.responder).flatMap(([part, label]) => {
    const first = part === "mlp" && !data.parallel ? own : own + 1;
    const values = data.responders[state.ablation][state.tokens][part][index] ?? [];
    return values.map((value, layer) => ({ layer, part: label, value })).slice(first);
  });
  document.getElementById("prune-share").textContent = `${state.prune} %`;
  document.getElementById("prune").value = state.prune;
  present("responders", all.length > 0);
  if (!all.length) return;
  const most = all.reduce((a, b) => (b.value > a.value ? b : a));
  const summary = most.value > 0
    ? `Largest: ${most.part} of layer ${most.layer}, ${number(most.value)} logits`
    : "None repairs on average";
  const layers = Array.from({ length: data.n_layers }, (_, layer) => ({ layer }));
  const responses = large("responders", all, state);
  await draw("responders", { datasets: { responses, layers }, filling: { head: state.head, summary }, height: 200 });
  valuesOf("responders", "Mean response of each layer that can respond.",
    [named("Layer", "layer"), named("Part", "part"), column("Mean", ["value"], "logits", (value) => number(value, 4))],
    responses);
}

async function showHandOff(state, data) {
  const [layer, head] = placeOf(state.head);
  const all = (data.hand_off ?? [])
    .filter((pair) => pair.layer === layer && pair.head === head)
    .map((pair) => ({ head: nameOf(pair.later_layer, pair.later_head), value: pair.value }))
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  document.getElementById("hand_off-shown").hidden = !all.length;
  if (!all.length) return;
  const kept = large("hand_off", all, state);
  const values = new Map(kept.map((of) => [of.head, [of.value]]));
  const about = `later heads that change when ${state.head} is ablated, on its top tokens`;
  await drawHeads("hand_off", state, (name) => values.get(name), { quantity: "change of direct effect", unit: "logits", about });
  valuesOf("hand_off", `Mean change of the direct effect: ${about}.`,
    [linked(state), column("Mean change", ["value"], "logits", (value) => number(value, 4))], kept);
}

function showLens(state, data) {
  const { promoted, suppressed } = data.lens[data.heads.indexOf(state.head)];
  const rows = promoted.map(([raised, rise], i) => ({ raised, rise, lowered: suppressed[i][0], fall: suppressed[i][1] }));
  const code = (piece) => element("code", {}, readable(piece).replaceAll(" ", "\u00b7"));
  showTable("lens", `Mean direct effect of ${state.head} on a token's logit, on the head's top tokens; \u00b7 is a space.`,
    [named("Promoted", "raised", code), column("Effect", ["rise"], "logits"),
      named("Suppressed", "lowered", code), column("Effect", ["fall"], "logits")], rows);
}

async function showScatter(state, data) {
  const index = data.heads.indexOf(state.head);
  const tokens = Object.entries(words.kind).flatMap(([kind, label]) => {
    const { text, direct_effect, delta_logit } = data.scatter[kind];
    const change = delta_logit[state.ablation][index];
    const texts = kind === "control" ? text : text[index];
    return texts
      .map((context, i) => ({ kind: label, text: context, direct_effect: direct_effect[index][i], delta_logit: change[i] }))
      .filter((token) => token.direct_effect !== null && token.delta_logit !== null);
  });
  const low = Math.max(Math.min(...tokens.map((t) => t.direct_effect), 0), -Math.max(...tokens.map((t) => t.delta_logit), 0));
  const high = Math.min(Math.max(...tokens.map((t) => t.direct_effect), 0), -Math.min(...tokens.map((t) => t.delta_logit), 0));
  const line = [low, high].map((end) => ({ direct_effect: end, delta_logit: -end }));
  const above = tokens.filter((t) => t.delta_logit > -t.direct_effect).length;
  const summary = `${above} of ${tokens.length} tokens lie above the line where nothing repairs`;
  await draw("scatter", { datasets: { tokens, line }, filling: { head: state.head, summary }, height: 380 });
  valuesOf("scatter", "Tokens of the scatter.",
    [named("Context >> predicted", "text"), named("Set", "kind"), column("Direct effect", ["direct_effect"], "logits"),
      column("Change of the logit", ["delta_logit"], "logits")], tokens);
}

async function showNeurons(state, data) {
  const found = data.neurons[state.head];
  const measured = document.getElementById("neurons-measured");
  present("neurons", found !== undefined);
  measured.replaceChildren("Neurons were measured for chosen heads only, under resample ablation: ");
  Object.keys(data.neurons).forEach((name, i) => {
    const link = element("a", { href: fragment({ ...state, head: name }) }, name);
    if (name === state.head) link.setAttribute("aria-current", "true");
    measured.append(i ? ", " : "", link);
  });
  measured.append(Object.keys(data.neurons).length ? "." : "none in this model.");
  if (!found) return;
  const withName = (entry) =>
    ({ ...entry, name: `MLP ${entry.mlp_layer} neuron ${entry.neuron}`, mlp: `MLP ${entry.mlp_layer}` });
  const neurons = found.frequency.map(withName);
  const most = neurons.reduce((a, b) => (b.value > a.value ? b : a));
  const summary = `most often ${most.name}, on ${percent(most.value)} of top tokens`;
  await draw("neurons", {
    datasets: { neurons },
    filling: { head: state.head, summary },
    height: Math.max(120, 17 * neurons.length),
  });
  valuesOf("neurons", "Neurons that are most often among the 10 that change most, on the head's top tokens.",
    [named("Neuron", "name"), column("Share of tokens", ["value"], "ratio", percent),
      column("95 % interval", ["low", "high"], "ratio", (low, high) => `${percent(low)} to ${percent(high)}`),
      column("Mean direct effect", ["direct_effect"], "logits"), column("Mean change", ["change"], "logits"),
      column("Erases less, share of tokens", ["anti_erasing"], "ratio", percent)], neurons);
  const list = (texts) => element("ul", {}, ...texts.map((text) => element("li", {}, element("code", {}, text))));
  if (!found.erasure.length) {
    document.getElementById("erasure").textContent = "No neuron of these MLPs erases on average and less so on ablation.";
  } else {
    showTable("erasure", "Erasure neurons: negative mean direct effect, which rises on ablation.",
      [named("Neuron", "name"), column("Mean direct effect", ["direct_effect"], "logits"),
        column("After ablation", ["ablated_direct_effect"], "logits"), named("Where it changes most", "contexts", list)],
      found.erasure.map(withName));
  }
}

// Show a chart's place, or the sentence that stands for it.
function present(name, shown) {
  document.getElementById(`${name}-shown`).hidden = !shown;
  document.getElementById(`${name}-absent`).hidden = shown;
}
