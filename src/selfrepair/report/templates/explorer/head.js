// The chosen head: its effects, what repairs it, who repairs it, its tokens, its neurons.

async function showHead(state) {
  const data = dataOf(state);
  document.getElementById("head-title").textContent = `Head ${state.head} of ${state.model}`;
  document.getElementById("head-about").textContent =
    `${state.ablation} ablation, ${tokensOf(state, "mean")}; run ${state.run}.`;
  showEffects(state, data);
  showContexts(state, data);
  await Promise.all([
    showSplit(state, data),
    showResponders(state, data),
    showScatter(state, data),
    showNeurons(state, data),
  ]);
}

// Value and interval of a quantity for the chosen head.
function estimate(state, data, statistic, quantity) {
  const of = data.statistics[state.ablation][state.tokens][statistic]?.[quantity];
  return of ? of[data.heads.indexOf(state.head)] : null;
}

function showEffects(state, data) {
  const rows = Object.entries(words.quantity).map(([quantity, label]) => {
    const [value, low, high] = estimate(state, data, "mean", quantity);
    const [median] = estimate(state, data, "median", quantity);
    const share = estimate(state, data, "share", quantity);
    return [label, number(value), interval(low, high), number(median), share ? number(share[0]) : MISSING];
  });
  const headings = ["Effect", "Mean (logits)", "95 % interval", "Median (logits)", "Share of direct effect"];
  const ofMedians = tokensOf(state, "median");
  const sampled = ofMedians === tokensOf(state, "mean") ? "" : `; medians are of the ${ofMedians}`;
  const caption = `Effects of ${state.head}; shares are ratios of sums${sampled}.`;
  document.getElementById("effects").replaceChildren(table(caption, headings, rows));
}

async function showSplit(state, data) {
  const quantities = { ...words.part, self_repair: "total" };
  const parts = Object.entries(quantities).map(([quantity, part]) => {
    const [value, low, high] = estimate(state, data, "mean", quantity);
    return { part, value, low, high };
  });
  const summary = parts.map(({ part, value }) => `${part} ${number(value)} logits`).join(", ");
  await draw("split", { datasets: { parts }, filling: { head: state.head, summary }, height: 130 });
  valuesOf("split", () =>
    table("Parts of self-repair.", ["Part", "Mean (logits)", "95 % interval"],
      parts.map(({ part, value, low, high }) => [part, number(value), interval(low, high)])),
  );
}

async function showResponders(state, data) {
  const index = data.heads.indexOf(state.head);
  const [own] = placeOf(state.head);
  const responses = [];
  for (const [part, label] of Object.entries(words.responder)) {
    const first = part === "mlp" && !data.parallel ? own : own + 1;
    const values = data.responders[state.ablation][state.tokens][part][index] ?? [];
    values.forEach((value, layer) => {
      if (layer >= first) responses.push({ layer, part: label, value });
    });
  }
  present("responders", responses.length > 0);
  if (!responses.length) return;
  const most = responses.reduce((a, b) => (b.value > a.value ? b : a));
  const summary = most.value > 0
    ? `Largest: ${most.part} of layer ${most.layer}, ${number(most.value)} logits`
    : "None repairs on average";
  const layers = Array.from({ length: data.n_layers }, (_, layer) => ({ layer }));
  await draw("responders", { datasets: { responses, layers }, filling: { head: state.head, summary }, height: 200 });
  valuesOf("responders", () =>
    table("Mean response of each layer that can respond.", ["Layer", "Part", "Mean (logits)"],
      responses.map(({ layer, part, value }) => [`${layer}`, part, number(value, 4)])),
  );
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
  valuesOf("scatter", () =>
    table("Tokens of the scatter.", ["Context >> predicted", "Set", "Direct effect (logits)", "Change of the logit (logits)"],
      tokens.map((t) => [t.text, t.kind, number(t.direct_effect), number(t.delta_logit)])),
  );
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
  const named = (entry) => `MLP ${entry.mlp_layer} neuron ${entry.neuron}`;
  const neurons = found.frequency.map((entry) => ({ ...entry, name: named(entry), mlp: `MLP ${entry.mlp_layer}` }));
  const most = neurons.reduce((a, b) => (b.value > a.value ? b : a));
  const summary = `most often ${most.name}, on ${percent(most.value)} of top tokens`;
  await draw("neurons", {
    datasets: { neurons },
    filling: { head: state.head, summary },
    height: Math.max(120, 17 * neurons.length),
  });
  valuesOf("neurons", () =>
    table("Neurons that are most often among the 10 that change most, on the head's top tokens.",
      ["Neuron", "Share of tokens", "95 % interval", "Mean direct effect (logits)", "Mean change (logits)", "Erases less, share of tokens"],
      neurons.map((n) => [n.name, percent(n.value), `${percent(n.low)} to ${percent(n.high)}`,
        number(n.direct_effect), number(n.change), percent(n.anti_erasing)])),
  );
  document.getElementById("erasure").replaceChildren(
    found.erasure.length
      ? table("Erasure neurons: negative mean direct effect, which rises on ablation.",
          ["Neuron", "Mean direct effect (logits)", "After ablation", "Where it changes most"],
          found.erasure.map((n) => [named(n), number(n.direct_effect), number(n.ablated_direct_effect),
            element("ul", {}, ...n.contexts.map((text) => element("li", {}, element("code", {}, text))))]))
      : "No neuron of these MLPs erases on average and less so on ablation.",
  );
}

// Show a chart's place, or the sentence that stands for it.
function present(name, shown) {
  document.getElementById(`${name}-shown`).hidden = !shown;
  document.getElementById(`${name}-absent`).hidden = shown;
}
