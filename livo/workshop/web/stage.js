// One step on the screen: its text, what it shows, its question, the class's answers and what is said afterwards.
import { renderAsk } from "./asks.js";
import { tallyOf } from "./charts.js";
import { el, prose } from "./dom.js";
import { boardOf, words } from "./drawn.js";
import { minutes, say } from "./language.js";
import { WIDGETS } from "./widgets.js";

export const KINDS = {
  predict: say("Predict"), observe: say("Observe"), explain: say("Explain"), change: say("Change"),
};

// {node, ask}; `ask` is what `renderAsk` made, or null. `own(id)` gives this person's answer to an earlier question.
export function renderStep(step, { number, of, own = () => null, changed = () => {}, closed = false, tally = null,
  mine = null, asking = true, game = {} } = {}) {
  const head = el("header", { class: "step-head" },
    el("p", { class: "eyebrow" }, el("span", { class: `kind ${step.kind}` }, KINDS[step.kind]),
      of ? ` ${say("step {n} of {of}", { n: number, of })} · ${minutes(step.minutes)}` : ""),
    el("h1", { tabindex: -1 }, step.kind === "change" ? say("What would change your mind?") : step.title));
  const shown = step.show.map((widget) =>
    WIDGETS[widget.widget](widget, widget.mine ?? (widget.ask ? own(widget.ask) : null)));
  let ask = null;
  const parts = [];
  if (step.ask) {
    if (closed) parts.push(question(step.ask), tallyOf(step.ask, tally, mine), afterwards(step.ask, mine));
    else if (asking) {
      ask = renderAsk(step.ask, changed, game);
      ask.set(mine);
      parts.push(ask.node);
    } else parts.push(question(step.ask), optionsOf(step.ask), step.ask.kind === "prompt" && boardOf(tally));
  }
  return { node: el("article", { class: `step ${step.kind}` }, head, step.html && prose(step.html), shown,
    parts.filter(Boolean)), ask };
}

function question(ask) {
  const node = el("h2", { class: "question" });
  node.innerHTML = ask.question;
  return node;
}

function optionsOf(ask) {
  if (ask.kind === "prompt") return words(ask);
  if (ask.kind === "choice") return el("ol", { class: "shown-options" },
    ask.options.map((option) => el("li", {}, option)));
  return el("p", { class: "soft" }, ask.kind === "number" ? say("A number from {min} to {max}", ask)
    : say("For each: {options}", { options: ask.options.join(", ") }));
}

// What is said once the question is closed.
function afterwards(ask, mine) {
  const own = ask.kind === "choice" && mine != null ? ask.options[mine] : null;
  if (!ask.because && !own) return null;
  return el("section", { class: "because" }, own && el("p", {}, el("b", {}, say("You chose: ")), own),
    ask.right?.length === 1 && el("p", {}, el("b", {}, say("Fits best: ")), ask.options[ask.right[0]]),
    ask.because && prose(ask.because));
}
