// What was drawn for single lessons: guidance on one axis, a mix that meets a target, and the game's board.
import { button, el, percent } from "./dom.js";
import { hear, say } from "./language.js";

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

// Which method fell to which kind of trick: how many of the prompts that were sent. `empty` has the methods and tricks
// while there is no tally. On phones a line a method, else a table.
export function boardOf(tally, empty = null) {
  const note = el("p", { class: "note" }, say("The board is shown from five people on, as counts only."));
  const narrow = matchMedia("(max-width: 820px)").matches;
  if (!tally?.enough) return empty && !narrow ? [tableOf({ ...empty, tried: null }), note] : note;
  if (!narrow) return tableOf(tally);
  return el("ul", { class: "board-lines" }, tally.methods.map((method, m) => {
    const fell = tally.tricks.map((trick, t) => [trick, tally.counts[t][m], tally.tried[t]]).filter(([, n]) => n);
    return el("li", {}, el("b", {}, method), fell.length ? el("span", { class: "row" }, fell.map(([trick, n, of]) =>
      el("span", { class: "chip warn" }, `${say(trick)} ${n} / ${of}`)))
      : el("span", { class: "chip good" }, say("held")));
  }));
}

function tableOf({ methods, tricks, counts, tried }) {
  const cell = (t, m) => (tried ? counts[t][m] : "·");
  return el("div", { class: "scroll board-of", tabindex: 0, role: "region", "aria-label": say("Which method fell") },
    el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, say("kind of trick")),
      tricks.map((trick, t) => el("th", { scope: "col", class: "number" }, say(trick),
        tried ? ` (${tried[t]})` : "")))),
    el("tbody", {}, methods.map((method, m) => el("tr", {}, el("th", { scope: "row" }, method),
      tricks.map((_, t) => el("td", { class: `number ${tried && counts[t][m] ? "most" : ""}` }, cell(t, m))))))));
}

// The same of one person alone, whose tries say their trick in words.
export function ownBoard(methods, own) {
  if (!own?.length || typeof own[0].trick !== "string") return null;
  const tricks = [...new Set(own.map((one) => one.trick))];
  const of = tricks.map((trick) => own.filter((one) => one.trick === trick));
  return { enough: true, methods, tricks, tried: of.map((tries) => tries.length),
    counts: of.map((tries) => methods.map((_, m) => tries.filter((one) => one.fell.includes(m)).length)) };
}

// --- Try to break it -------------------------------------------------------------------------------------------------

const LATER = 1000; // milliseconds between two questions for a prompt that waits for the generator
const COUNTED = {
  alike: say("alike"), astray: say("do not follow"), covered: say("show something covered"),
};

// What each method made of a prompt, the broken ones first.
function scoreOf(found, why) {
  const broken = found.scores.filter((one) => one.broken);
  const line = (one) => el("li", {}, el("b", {}, one.title), one.count === null
    ? el("span", { class: "soft" }, ` ${say("does not act on such prompts")}`)
    : [el("span", { class: `chip ${one.broken ? "warn" : "good"}` }, one.broken ? say("broken") : say("held")),
      el("span", { class: "share-bar", "aria-hidden": "true" },
        el("i", { class: one.broken ? "hot" : "", style: { width: `${(100 * one.count) / found.n}%` } })),
      el("span", {}, `${one.count} / ${found.n} ${COUNTED[found.aim]}`),
      one.broken && el("span", { class: "soft why" }, say(why[one.why]))]);
  return [el("p", { class: "guess" }, `“${found.prompt}” · ${say(found.trick)} · ` +
    `${say("methods broken")}: ${broken.length} / ${found.scores.length}`),
  el("ul", { class: "fallen" }, [...broken, ...found.scores.filter((one) => !one.broken)].map(line))];
}

// Which methods this person has broken so far.
function progress(methods, tries) {
  const fell = new Set(tries.flatMap((one) => one.fell));
  return [el("p", {}, el("b", {}, `${say("Broken so far")}: ${fell.size} / ${methods.length}`)),
    el("p", { class: "trophies" }, methods.map((method, m) => el("span", { class: `trophy ${fell.has(m) ? "on" : ""}` },
      `${fell.has(m) ? "✓ " : ""}${method}`)))];
}

function hint(rung) {
  if (rung.trick) return `${say("Known prompts that broke it")}: ${rung.broken} / ${rung.of}, ${say(rung.trick)}.`;
  if (rung.prompt) return `${say("For example")}: “${rung.prompt}”.`;
  return [`${say("A stored attack that passes it")}: ${say(rung.attack)}, ${percent(rung.rate)}.`,
    ...rung.prompts.map((prompt) => `“${prompt}”`)].join(" ");
}

// A ladder for one method after another: each press says a little more.
function ladder(methods, hints) {
  const said = el("ul", { class: "hints", role: "status" });
  const more = button(say("A hint"), () => {
    const rungs = hints[place];
    if (said.children.length < rungs.length) said.append(el("li", {}, hint(rungs[said.children.length])));
    more.disabled = said.children.length >= rungs.length;
  });
  let place = 0;
  const pick = el("select", { "aria-label": say("A hint for which method?"), onchange: () => {
    place = Number(pick.value);
    said.replaceChildren();
    more.disabled = false;
  } }, methods.map((method, m) => el("option", { value: m }, method)));
  return el("div", { class: "ladder" }, el("div", { class: "row" }, pick, more), said);
}

// A question of kind "prompt": pupils write prompts, and see at once what each method made of them. `attempt(prompt)`
// asks the server; `tried(prompt)` is told of each prompt that has its score.
export function promptAsk(ask, changed, { attempt, tried = () => {} }) {
  const { methods, why, words, hints } = ask.trap;
  let tries = [];
  const id = `drawn-${(counter += 1)}`;
  const out = el("div", { class: "scores-of", role: "status" });
  const mine = el("div", { class: "progress" });
  const input = el("input", { id, autocomplete: "off", autocapitalize: "none", maxlength: 120,
    placeholder: say("a photo of ...") });
  const go = el("button", { type: "submit", class: "main" }, say("Try it"));
  const add = (word) => {
    const before = input.value.trim() || say("a photo of ...").replace(" ...", " a");
    input.value = `${before} ${word}`;
    input.focus();
  };
  const form = el("form", { class: "try", onsubmit: async (event) => {
    event.preventDefault();
    const prompt = input.value.trim();
    if (!prompt || go.disabled) return;
    go.disabled = true;
    out.replaceChildren(el("p", { class: "soft" }, say("The pictures are counted …")));
    try {
      const found = await settled(prompt, attempt, out);
      if (!found) return;
      out.replaceChildren(...scoreOf(found, why));
      tries = [...tries, { fell: found.scores.flatMap((one, m) => (one.broken ? [m] : [])), trick: found.trick }];
      mine.replaceChildren(...progress(methods, tries));
      changed();
      tried(prompt);
    } finally { go.disabled = false; }
  } }, el("label", { for: id, class: "hidden" }, say("Your prompt")), input, go);
  const node = el("fieldset", { class: "ask" }, form, out, mine,
    el("details", {}, el("summary", {}, say("Words of the drawn world")), Object.entries(words).map(([kind, list]) =>
      el("div", { class: "word-list" }, el("h3", {}, say(kind)), el("p", {}, list.map((word) =>
        button(word, () => add(word), "word")))))),
    el("details", {}, el("summary", {}, say("Hints")), ladder(methods, hints)));
  return {
    node,
    value: () => (tries.length ? tries : null),
    set: (given) => {
      if (!given?.length) return;
      tries = given;
      mine.replaceChildren(...progress(methods, tries));
    },
  };
}

// The score of a prompt once it is there; null where the server refuses, which is said in `out`.
async function settled(prompt, attempt, out) {
  while (out.isConnected) {
    const { status, payload } = await attempt(prompt);
    if (status === 200) return payload;
    if (status === 202) {
      out.replaceChildren(el("p", { class: "note" }, say("These pictures are being drawn."),
        ` ${say("Prompts before yours")}: ${payload.waiting} · ${say("about")} ${payload.seconds} s`),
      el("progress", { max: payload.waiting + 1, value: payload.done, "aria-label": say("Drawn so far") }));
    } else {
      out.replaceChildren(el("p", { class: "problem" },
        payload ? hear(payload.message) : say("The server cannot be reached; try again.")));
      return null;
    }
    await new Promise((resolve) => setTimeout(resolve, LATER));
  }
  return null;
}

// On slides: which words there are.
export const words = (ask) => el("p", { class: "choices" },
  Object.values(ask.trap.words).flatMap((list) => list.slice(0, 5))
    .map((word) => el("span", { class: "choice" }, word)));
