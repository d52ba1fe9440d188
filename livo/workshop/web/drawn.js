// What was drawn for single lessons: guidance on one axis, a mix that meets a target, and the game's board.
import { el, percent } from "./dom.js";
import { say } from "./language.js";

const at = (share) => ({ left: `${100 * share}%` });
let counter = 0;

function choose(title, names, chosen, changed) {
  const group = `drawn-${(counter += 1)}`;
  return el("fieldset", { class: "pick" }, el("legend", {}, title), el("div", { class: "segments wide" },
    names.map((name, i) => el("label", { class: "segment" }, el("input", { type: "radio", name: group, value: i,
      checked: i === chosen, onchange: () => changed(i) }), el("span", {}, name)))));
}

const mark = (kind, share) => el("i", { class: `axis-${kind}`, style: at(share) });

// Louder than the data: what was planted, and what the model draws, on one axis.
export function louder(widget) {
  return el("div", { class: "widget" }, el("div", { class: "axis-rows" }, widget.rows.map((row) =>
    el("div", { class: "axis-row" }, el("p", { class: "axis-name" }, `“${row.prompt}”: `,
      el("b", { class: "planted" }, `◆ ${say("table")} ${percent(row.planted)}`), " · ",
      el("b", { class: "drawn" }, `● ${say("model")} ${percent(row.drawn)}`)),
    el("div", { class: "axis-track", "aria-hidden": "true" },
      el("i", { class: "axis-gap", style: { left: `${100 * row.low}%`, width: `${100 * (row.high - row.low)}%` } }),
      mark("planted", row.planted), mark("drawn", row.drawn))))),
  el("p", { class: "ends" }, el("span", {}, "0 %"), el("span", {}, say("share perceived female")),
    el("span", {}, "100 %")));
}

// The same axis, under the guidance that is chosen.
export function guidance(widget) {
  const scales = Object.keys(widget.rows[0].counts).sort((a, b) => a - b);
  const out = el("div", { class: "axis-rows" });
  const draw = (place) => out.replaceChildren(...widget.rows.map((row) => {
    const share = row.counts[scales[place]] / row.n;
    return el("div", { class: "axis-row" }, el("p", { class: "axis-name" }, `“${row.prompt}”: `,
      el("b", { class: "planted" }, `◆ ${say("table")} ${percent(row.planted)}`), " · ",
      el("b", { class: "drawn" }, `● ${say("model")} ${percent(share)}`)),
    el("div", { class: "axis-track", "aria-hidden": "true" }, mark("planted", row.planted), mark("drawn", share)));
  }));
  draw(0);
  return el("div", { class: "widget" }, choose(say("Guidance: how loudly the prompt speaks"), scales, 0, draw), out,
    el("p", { class: "ends" }, el("span", {}, "0 %"), el("span", {}, say("share perceived female")),
      el("span", {}, "100 %")));
}

// Who decides? A target, and the share of pictures that must get the value to meet it.
export function mix(widget) {
  const out = el("div", { class: "axis-rows" });
  let [kind, own] = [0, 30];
  const slider = el("input", { type: "range", min: 0, max: 100, value: own, "aria-label": say("Our own share"),
    oninput: () => { own = Number(slider.value); draw(); } });
  const ownRow = el("p", { class: "range" }, slider);
  const draw = () => {
    ownRow.hidden = kind !== 2;
    out.replaceChildren(...widget.rows.map((row) => {
      const { off, on } = row;
      const target = [0.5, row.planted, own / 100][kind];
      const rate = on === off ? 0 : Math.min(1, Math.max(0, (target - off) / (on - off)));
      const met = off + rate * (on - off);
      const misses = Math.abs(met - target) > 0.02;
      return el("div", { class: "axis-row" }, el("p", { class: "axis-name" }, `“${row.prompt}”: `,
        el("b", {}, `${say("value on")} ${percent(rate)}`), ` → ${say("perceived female")} `,
        el("b", { class: "drawn" }, percent(met)),
        misses && el("span", { class: "chip warn" }, say("cannot reach the target"))),
      el("div", { class: "axis-track", "aria-hidden": "true" },
        el("i", { class: "axis-gap", style: { left: `${100 * Math.min(off, on)}%`,
          width: `${100 * Math.abs(on - off)}%` } }),
        mark("planted", target), mark("drawn", met)));
    }));
  };
  draw();
  return el("div", { class: "widget" }, choose(say("What should the pictures show?"),
    [say("half and half"), say("the planted share"), say("a share of our own")], 0, (i) => { kind = i; draw(); }),
  ownRow, out, el("p", { class: "soft" }, say("The bar shows what the mixing rate can reach; ◆ is the target.")));
}

// Which method fell to which kind of trick: how many of the prompts that were sent.
export function boardOf(tally) {
  if (!tally?.enough) {
    return el("p", { class: "note" }, say("The board is shown from five prompts on, as counts only."));
  }
  return el("div", { class: "scroll board-of", tabindex: 0, role: "region", "aria-label": say("Which method fell") },
    el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, say("kind of trick")),
      tally.tricks.map((trick, t) => el("th", { scope: "col", class: "number" }, `${trick} (${tally.tried[t]})`)))),
    el("tbody", {}, tally.methods.map((method, m) => el("tr", {}, el("th", { scope: "row" }, method),
      tally.tricks.map((_, t) => el("td", { class: `number ${tally.counts[t][m] ? "most" : ""}` },
        tally.counts[t][m])))))));
}

// A question of kind "prompt": a prompt, and at once what each method made of it.
export function promptAsk(ask, changed) {
  const { rows, why } = ask.trap;
  let value = null;
  const out = el("div", { class: "scores-of", role: "status" });
  const draw = () => {
    const row = rows[value];
    const broken = row.scores.filter((one) => one.broken).length;
    out.replaceChildren(el("p", { class: "guess" }, `“${row.prompt}” · ${say("methods broken")}: ${broken}`),
      el("ul", { class: "fallen" }, row.scores.map((one) => el("li", {}, el("b", {}, one.title),
        el("span", { class: `chip ${one.broken ? "warn" : "good"}` }, one.broken ? say("broken") : say("held")),
        ` ${one.count} / ${row.n} ${row.said ? say("do not follow") : say("alike")}. `,
        el("span", { class: "soft" }, one.broken ? say(why[one.why]) : "")))));
  };
  const tricks = [...new Set(rows.map((row) => row.trick))];
  const group = `drawn-${(counter += 1)}`;
  const node = el("fieldset", { class: "ask" }, el("div", {}, tricks.map((trick) =>
    el("fieldset", { class: "pick" }, el("legend", {}, trick), el("div", { class: "segments wide" },
      rows.map((row, i) => row.trick === trick && el("label", { class: "segment" },
        el("input", { type: "radio", name: group, value: i, onchange: () => { value = i; draw(); changed(); } }),
        el("span", {}, short(row.prompt))))))), out));
  return {
    node,
    value: () => value,
    set: (given) => {
      if (given == null) return;
      value = given;
      node.querySelector(`input[value="${given}"]`).checked = true;
      draw();
    },
  };
}

const short = (prompt) => prompt.replace(/^(a picture|an image) of /, "");

export const words = (ask) => el("p", { class: "choices" }, ask.trap.rows.map((row) =>
  el("span", { class: "choice" }, short(row.prompt))));
