// Top tokens in context: tokens that were kept for the head are coloured by an effect.

const MARKS = { "\n": "\u21b5", "\t": "\u2192", "\r": "\u240d" };
const UNFINISHED = "\u25cc"; // stands for a token that only begins a character
const REACH = 0.85; // of the scheme's half on either side; its ends are too dark to tell apart

// The colours of the grid, which is drawn before.
function colourOf(value, extent) {
  const scale = drawn.grid.view.scale("color");
  return scale((REACH * value * scale.domain().at(-1)) / extent);
}

// Black or white, whichever reads better on a colour.
function inkOn(colour) {
  const [r, g, b] = colour.match(/\d+/g).map(Number);
  const linear = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return light > 0.179 ? "#000" : "#fff";
}

const readable = (piece) => piece.replace(/[\n\t\r]/g, (character) => MARKS[character]) || UNFINISHED;

function effectsOf(context, state, i) {
  return { direct_effect: context.direct_effect[i], self_repair: context.self_repair[state.ablation][i] };
}

const inWords = (effects) =>
  Object.entries(words.colour).map(([name, label]) => `${label} ${number(effects[name])}`).join(", ");

function showContexts(state, data) {
  const contexts = data.contexts[data.heads.indexOf(state.head)];
  present("contexts", contexts.length > 0);
  const coloured = contexts.flatMap((context) => context.kept.map((place, i) => effectsOf(context, state, i)[state.colour]));
  const extent = largest(coloured);
  for (const input of document.querySelectorAll("input[name=colour]")) input.checked = input.value === state.colour;
  shown.contexts = { about: "top tokens in context", units: { direct_effect: "logits", self_repair: "logits" }, rows: contexts };
  document.getElementById("contexts").replaceChildren(...contexts.map((context) => contextItem(context, state, extent)));
  showScale(extent, state);
}

function contextItem(context, state, extent) {
  const line = element("p", { className: "context" });
  const at = new Map(context.kept.map((place, i) => [place, i]));
  context.pieces.forEach((piece, place) => {
    const predicted = place === context.pieces.length - 1;
    const span = element(predicted ? "strong" : "span", {}, readable(piece));
    if (at.has(place)) {
      const effects = effectsOf(context, state, at.get(place));
      const value = effects[state.colour];
      span.className = "kept";
      span.title = `${inWords(effects)} (logits)`;
      if (value !== null) {
        span.style.backgroundColor = colourOf(value, extent);
        span.style.color = inkOn(span.style.backgroundColor);
      }
      span.append(element("span", { className: "unseen" }, ` (${number(value)})`));
    }
    line.append(span);
  });
  const last = at.get(context.pieces.length - 1);
  const effects = last === undefined ? "" : `: ${inWords(effectsOf(context, state, last))} (logits)`;
  return element("li", {}, line, element("p", { className: "about" }, `Row ${context.row}, position ${context.pos}${effects}`));
}

function showScale(extent, state) {
  const stops = Array.from({ length: 21 }, (_, i) => colourOf((i / 10 - 1) * extent, extent));
  document.getElementById("scale-bar").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  document.getElementById("scale-low").textContent = number(-extent, 2);
  document.getElementById("scale-high").textContent = number(extent, 2);
  document.getElementById("scale-unit").textContent = `${words.colour[state.colour]} (logits)`;
}
