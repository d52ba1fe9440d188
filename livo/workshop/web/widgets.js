// What a step shows, one function a widget of livo/workshop/lesson.py; `own` is this person's answer to the widget's
// question.
import { tile } from "./asks.js";
import { guessHistogram, shareBars, tradeOff } from "./charts.js";
import { BASE, button, el, percent } from "./dom.js";
import { boardOf, guidance, louder, mix, ownBoard } from "./drawn.js";
import { corrected, d1, d2, wilson } from "./figures.js";
import { say } from "./language.js";
import { rulers } from "./rulers.js";

const sum = (values) => values.reduce((a, b) => a + b, 0);
const perceived = (name) => (name === "male" ? say("perceived male") : name === "female" ? say("perceived female")
  : say(name));
const read = (set, i) => (set.labels[i] < 0 ? say("the classifier cannot tell")
  : say("the classifier says {label}", { label: perceived(set.classes[set.labels[i]]) }));
const heard = (set, i) => `${say("picture {n}", { n: i + 1 })}: ${read(set, i)}`;
let counter = 0;
export const shade = (k) => `shade-${k % 5}`;

// Each takes the widget, this person's answer to its question, and whether it is drawn on a slide.
export const WIDGETS = {
  set: (widget, own, { slide = false } = {}) => el("div", { class: "widget turning" },
    slide && widget.sets.length > 1 && widget.pictures && el("p", { class: "prompt" },
      `“${[...new Set(widget.sets.map((set) => set.prompt))].join("”, “")}”`),
    widget.asked && !slide && guessHistogram(widget.asked, widget.tally, own),
    !slide && paired(widget) ? [pairs(widget.sets), el("div", { class: "sets n-2" },
      widget.sets.map((set) => setCard(set, { ...widget, pictures: false }, slide)))]
      : el("div", { class: `sets n-${widget.sets.length}` }, widget.sets.map((set) => setCard(set, widget, slide)))),
  rulers,
  reference,
  verdicts,
  correction,
  chart: (widget, own, size) => el("div", { class: "widget" }, tradeOff(widget.chart, size)),
  retrieval,
  louder,
  guidance,
  mix,
  board: (widget, own) => el("div", { class: "widget" },
    boardOf(widget.tally ?? ownBoard(widget.methods, own), widget)),
  tab: (widget) => el("p", { class: "widget" },
    el("a", { class: "main", href: BASE.replace(/workshop\/$/, ""), target: "_blank", rel: "noopener" }, widget.label)),
};

function setCard(set, widget, slide) {
  const figures = set.classes.length > 2;
  return el("article", { class: "set" },
    el("h3", {}, say(set.title), el("small", {}, `“${set.prompt}”`)),
    widget.pictures && set.sheet && (slide ? el("div", { class: "pictures" }, pictures(set)) : pictures(set)),
    widget.bars && shareBars(set.classes, set.counts, { words: perceived }),
    set.abstained > 0 && el("p", { class: "soft" }, say("cannot tell: {n}", { n: set.abstained })),
    figures && el("p", { class: "figures" }, "D1 ", el("b", {}, (100 * d1(set.counts)).toFixed(1)), " · D2 ",
      el("b", {}, (100 * d2(set.counts)).toFixed(1))));
}

function pictures(set, most = Infinity) {
  const n = set.labels.length;
  return el("div", { class: "tiles" },
    set.labels.slice(0, most).map((_, i) => tile(set.sheet, i, n, heard(set, i))));
}

// Two sets of the same seeds on a phone: one above the other, to be swiped through.
const paired = (widget) => widget.sets.length === 2 && widget.pictures && widget.sets.every((set) => set.sheet)
  && matchMedia("(max-width: 820px)").matches;

function pairs(sets) {
  const title = (set) => `${set.title}: “${set.prompt}”`;
  return el("div", { class: "pairs", tabindex: 0, role: "region",
    "aria-label": say("{sets}; swipe or use the arrow keys", { sets: sets.map(title).join(" / ") }) },
  el("p", { class: "pair-title" }, say("Above"), ": ", el("b", {}, say(sets[0].title)), ". ", say("Below"), ": ",
    el("b", {}, say(sets[1].title)), ". ", say("The same noise in each column; swipe to see all.")),
  el("div", { class: "pair-strip tiles" }, sets[0].labels.map((_, i) => el("div", { class: "pair" },
    sets.map((set) => tile(set.sheet, i, set.labels.length, `${set.title}, ${heard(set, i)}`))))));
}

function options(names, chosen, changed, title) {
  const group = `widget-${(counter += 1)}`;
  return el("fieldset", { class: "pick" }, el("legend", {}, title),
    el("div", { class: "segments wide" }, names.map((name, i) => el("label", { class: "segment" },
    el("input", { type: "radio", name: group, value: i, checked: i === chosen, onchange: () => changed(i) }),
      el("span", {}, name)))));
}

function slider(title, value, changed, { decimals = 0, min = 0, max = 100 } = {}) {
  const id = `widget-${(counter += 1)}`;
  const words = (now) => `${Number(now).toFixed(decimals)} %`;
  const out = el("output", { for: id }, words(value));
  const input = el("input", { type: "range", id, min, max, step: 10 ** -decimals, value,
    oninput: () => { out.textContent = words(input.value); changed(Number(input.value)); } });
  const node = el("div", { class: "slider" }, el("label", { for: id }, title), input, out);
  node.set = (now) => { input.value = now; out.textContent = words(now); };
  return node;
}

// --- Whose fifty percent? -------------------------------------------------------------------------------------------

function reference(widget) {
  let set = widget.sets[0];
  let kind = 0;
  let own = 30;
  const out = el("div", {});
  const draw = () => {
    const k = set.classes.indexOf("female");
    const [count, n] = [set.counts[k], sum(set.counts)];
    const wanted = [0.5, set.planted.female, own / 100][kind];
    const [low, high] = wilson(count, n);
    const fits = low <= wanted && wanted <= high;
    ownSlider.hidden = kind !== 2;
    out.replaceChildren(
      pictures(set, 10),
      shareBars(set.classes, set.counts, { words: perceived,
        mark: set.classes.map((name) => (name === "female" ? wanted : 1 - wanted)) }),
      el("div", { class: `verdict ${fits ? "fits" : "off"}`, role: "status" },
        el("b", {}, fits ? say("fits") : say("does not fit")),
        el("span", {}, " ", say("the reference of {wanted} perceived female.", { wanted: percent(wanted) }), " ",
          say("Found: {count} of {n}, interval {low} to {high} %; {away} points away.", { count, n,
            low: Math.round(100 * low), high: Math.round(100 * high),
            away: Math.abs(100 * (count / n - wanted)).toFixed(0) }))));
  };
  const ownSlider = slider(say("My own reference: share perceived female"), own, (value) => { own = value; draw(); });
  const node = el("div", { class: "widget" },
    options(widget.sets.map((one) => `${one.prompt}, ${say(one.title)}`), 0, (i) => { set = widget.sets[i]; draw(); },
      say("Which pictures?")),
    options([say("equal shares"), say("the planted table"), say("my own")], 0, (i) => { kind = i; draw(); },
      say("Compared with what?")), ownSlider, out,
    el("p", { class: "soft" },
      say("Ten of the 50 pictures are shown; all 50 are counted. The dashed line is the reference.")));
  draw();
  return node;
}

// --- The classifier is a model too -----------------------------------------------------------------------------------

function verdicts(widget, own, { slide = false } = {}) {
  const { pictures: all, classes, sheet } = widget.album;
  const plain = [...classes.map((name) => say(name)), say("cannot tell")];
  const words = [...classes.map(perceived), say("cannot tell")];
  const chosen = (picture) => (picture.label < 0 ? words.length - 1 : picture.label);
  const both = own ? all.map((picture, i) => [chosen(picture), own[i]])
    .filter(([a, b]) => a < classes.length && b < classes.length) : [];
  const split = widget.tally?.enough ? widget.tally.counts : null;
  if (slide) {
    const counts = (i) => split?.[i] ?? null;
    return el("div", { class: "widget" },
      split && el("p", { class: "choices" }, say("The class:"), " ", words.map((word, k) =>
        el("span", {}, el("i", { class: `key ${shade(k)}` }), ` ${word}`))),
      el("div", { class: "pictures" }, el("div", { class: "tiles" }, all.map((picture, i) =>
        labelled(tile(sheet, i, all.length, say("picture {n}", { n: i + 1 })), counts(i), plain[chosen(picture)])))));
  }
  return el("div", { class: "widget" },
    own && el("p", { class: "guess" },
      say("You and the classifier both placed {n} pictures, and agree on {agreed} of them.",
        { n: both.length, agreed: both.filter(([a, b]) => a === b).length })),
    el("div", { class: "verdicts" }, all.map((picture, i) => el("article", { class: "verdict-card" },
      tile(sheet, i, all.length, say("picture {n}", { n: i + 1 })),
      el("dl", {},
        el("dt", {}, `${i + 1} · ${say("classifier")}`), el("dd", {}, el("b", {}, words[chosen(picture)]),
          ` (${classes.map((name, k) => `${plain[k]} ${percent(picture.scores[k])}`).join(", ")})`),
        own && [el("dt", {}, say("you")),
          el("dd", { class: own[i] === chosen(picture) ? "" : "differs" }, words[own[i]])],
        split && [el("dt", {}, say("class")), el("dd", {},
          plain.map((name, k) => `${name}\u00a0${split[i][k]}`).join(", "))])))));
}

// A picture with how often each label was given to it, and what the classifier says.
export function labelled(picture, counts, verdict = null) {
  const most = Math.max(...counts ?? []);
  return el("figure", { class: "labelled" }, picture, el("figcaption", {}, verdict && el("b", { class: "said-of" },
    verdict), counts && [el("span", { class: "parts" }, counts.map((count, k) =>
    el("i", { class: shade(k), style: { flexGrow: count } }))),
  el("span", { class: "part-counts" }, counts.map((count) =>
    el("span", { class: count === most ? "most" : "" }, count)))]));
}

function correction(widget, own) {
  const { set, album, confusion } = widget;
  const k = set.classes.indexOf("female");
  const reported = set.counts[k] / sum(set.counts);
  const share = (truth, said) => { // of those of one true class that were placed, how many were called the other
    const row = confusion.matrix[truth].slice(0, set.classes.length);
    return row[said] / sum(row);
  };
  const tested = { missed: 100 * share(k, 1 - k), false_: 100 * share(1 - k, k), n: confusion.n };
  let now = { ...tested };
  const out = el("div", {});
  const draw = () => {
    const value = corrected(reported, now.missed / 100, now.false_ / 100);
    out.replaceChildren(
      line(say("the classifier reports"), reported, "shade-0"),
      value === null ? el("p", { class: "verdict off", role: "status" },
        say("Nothing can be corrected: such a classifier says the same whatever it sees."))
        : line(say("corrected share"), value, "shade-1"),
      now.few ? el("p", { class: "note" },
        say("Your ten labels are few: {few}. With so little, the correction itself is hardly known.", now)) : "");
  };
  const line = (title, value, shade) => el("div", { class: "bar-row" }, el("span", { class: "bar-name" }, title),
    el("span", { class: "bar-track", "aria-hidden": "true" },
      el("i", { class: `bar-fill ${shade}`, style: { width: `${100 * value}%` } })),
      el("span", { class: "bar-number" }, el("b", {}, `${(100 * value).toFixed(1)} %`)));
  const missed = slider(say("Of dolls perceived female, it calls male"), now.missed,
    (value) => { now = { ...now, missed: value, few: "" }; draw(); }, { decimals: 1 });
  const false_ = slider(say("Of dolls perceived male, it calls female"), now.false_,
    (value) => { now = { ...now, false_: value, few: "" }; draw(); }, { decimals: 1 });
  const use = (rates) => { now = rates; missed.set(rates.missed); false_.set(rates.false_); draw(); };
  const mine = () => {
    const rate = (truth) => {
      const placed = album.pictures.filter((picture, i) => own[i] === truth && picture.label >= 0);
      return [placed.filter((picture) => picture.label !== truth).length, placed.length];
    };
    const [[m, of], [f, ff]] = [rate(k), rate(1 - k)];
    use({ missed: of ? (100 * m) / of : 0, false_: ff ? (100 * f) / ff : 0,
      few: say("{m} of {of} and {f} of {ff} read otherwise than by you", { m, of, f, ff }) });
  };
  const node = el("div", { class: "widget" },
    el("p", {}, say("The set: “{prompt}”, {title}, {n} pictures. Group: perceived female.",
      { prompt: set.prompt, title: say(set.title), n: sum(set.counts) })),
    missed, false_,
    el("div", { class: "actions" }, button(
      say("Errors found on {n} drawings", { n: confusion.n.toLocaleString(document.documentElement.lang) }),
      () => use({ ...tested })), own && button(say("My ten labels as the truth"), mine)), out);
  draw();
  return node;
}

// --- Over-correction -------------------------------------------------------------------------------------------------

function retrieval(widget, own) {
  const words = [say("yes"), say("no"), say("cannot tell")];
  const split = widget.tally?.enough ? widget.tally.counts : null;
  return el("div", { class: "widget decisions" }, widget.prompts.map((row, i) => el("article", { class: "decision" },
    el("h3", {}, `“${row.prompt}”`),
    el("p", {}, el("span", { class: `chip ${row.principle ? "on" : ""}` },
      row.principle ? say("on: {principle}", { principle: say(row.text) }) : say("off: no principle"))),
    row.words.length
      ? el("ul", {}, row.words.map((word) => el("li", {}, el("b", {}, word.text), `: ${say(word.reason)}`)))
      : el("p", { class: "soft" }, say("No word here calls for a principle.")),
    (own || split) && el("p", { class: "soft" },
      [own && `${say("you")}: ${words[own[i]]}`,
        split && `${say("class")}: ${words.map((word, k) => `${word}\u00a0${split[i][k]}`).join(", ")}`]
      .filter(Boolean).join(" · ")))));
}
