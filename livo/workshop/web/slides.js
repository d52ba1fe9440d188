// Slides of the projector. A slide fills the screen and never scrolls: pictures take the height that is left, and
// text is as large as fits, never smaller than 1/45 of the height. The answer comes first.
import { tile } from "./asks.js";
import { guessHistogram, tallyOf } from "./charts.js";
import { BASE, el, prose } from "./dom.js";
import { boardOf, words } from "./drawn.js";
import { devices, LANGUAGE, say } from "./language.js";
import { KINDS } from "./stage.js";
import { labelled, shade, WIDGETS } from "./widgets.js";

// Of text, as shares of the height; beside things to see it stays smaller.
const [LARGEST, BESIDE, SMALLEST, STEP] = [0.056, 0.034, 0.0232, 0.0008];

// The slide of a room's state.
export function slide(state, code) {
  if (state.phase === "ended") return still(say("Thank you"), say("Answers are kept as counts only."));
  if (state.hidden) return still(say("A pause"), say("Please look up from your screens."));
  if (!state.step) return waiting(state, code);
  const { step } = state;
  const closed = state.phase === "closed";
  const body = !step.ask ? observed(step) : closed ? answered(step, state.tally) : asked(step, state.tally);
  return el("article", { class: `slide ${step.kind}` },
    el("header", { class: "slide-head" },
      el("p", { class: "eyebrow" }, el("span", { class: `kind ${step.kind}` }, KINDS[step.kind]),
        ` ${state.place[1] + 1} / ${state.of}`),
      el("h1", { tabindex: -1 }, step.kind === "change" ? say("What would change your mind?") : step.title)),
    body);
}

const still = (title, text) => el("article", { class: "slide still" }, el("div", { class: "slide-body" },
  el("h1", {}, title), el("p", {}, text)));

// Code, address and QR code, and who is here.
function waiting(state, code) {
  return el("article", { class: "slide joining" },
    el("div", { class: "slide-body" },
      el("h1", {}, state.lesson.title), el("p", {}, state.lesson.goal),
      el("p", { class: "address" }, state.join.replace(/^https?:\/\//, "")),
      el("p", { class: "big-code" }, code.slice(0, 3), " ", code.slice(3)),
      el("p", { class: "arrived" }, devices(state.here)), el("p", { class: "crowd" })),
    el("img", { class: "qr", src: `${BASE}api/rooms/${code}/qr.svg${LANGUAGE}`,
      alt: say("QR code of {address}", { address: state.join }) }));
}

// A mark for each device on the waiting slide, brought up to date without drawing the slide anew.
export function arrivals(node, here) {
  const crowd = node.querySelector(".crowd");
  if (!crowd) return;
  node.querySelector(".arrived").replaceChildren(devices(here));
  while (crowd.children.length > here) crowd.lastChild.remove();
  while (crowd.children.length < here) crowd.append(el("i", { class: `shade-${crowd.children.length % 4}` }));
}

const question = (ask) => {
  const node = el("h2", { class: "question" });
  node.innerHTML = ask.question;
  return node;
};

function asked(step, tally) {
  const { ask } = step;
  const said = step.html && prose(step.html, "prose said");
  if (ask.album) {
    return el("div", { class: "slide-body" }, question(ask), el("p", { class: "choices" },
      ask.options.map((option) => el("span", { class: "choice" }, option))),
    pictureBox(Array.from({ length: ask.album.count }, (_, i) =>
      tile(ask.album.sheet, i, ask.album.count, say("picture {n}", { n: i + 1 }))), true), said);
  }
  const what = ask.kind === "number" ? axis(ask)
    : ask.kind === "choice" ? el("ol", { class: "shown-options" }, ask.options.map((one) => el("li", {}, one)))
      : ask.kind === "prompt" ? [words(ask), boardOf(tally)]
        : el("ol", { class: "shown-options items" }, ask.items.map((one) => el("li", {}, one)));
  return el("div", { class: "slide-body" }, question(ask), what,
    ask.kind === "labels" && el("p", { class: "choices" },
      ask.options.map((option) => el("span", { class: "choice" }, option))), said);
}

// The line on which a number is guessed.
function axis(ask) {
  const marks = Array.from({ length: 6 }, (_, k) => Math.round(ask.min + ((ask.max - ask.min) * k) / 5));
  return el("div", { class: "axis-line" }, el("p", { class: "ends" }, marks.map((mark) => el("span", {}, mark))),
    el("p", { class: "unit" }, ask.unit));
}

function answered(step, tally) {
  const { ask } = step;
  const right = ask.kind === "choice" && ask.right?.length === 1
    && el("p", { class: "fits" }, say("Fits best: "), el("b", {}, ask.options[ask.right[0]]));
  const because = (ask.because || right) && el("div", { class: "because" }, right, ask.because && prose(ask.because));
  const split = ask.album && tally?.enough ? albumTally(ask, tally) : tallyOf(ask, tally);
  const beside = because && ask.kind !== "prompt"; // a board is as wide as the slide
  return el("div", { class: "slide-body answer" }, question(ask),
    el("div", { class: beside ? "halves" : "whole" }, split, because));
}

// The album itself, with the class's labels under each picture.
function albumTally(ask, tally) {
  return el("section", { class: "tally album" },
    el("p", { class: "choices" }, ask.options.map((option, k) =>
      el("span", {}, el("i", { class: `key ${shade(k)}` }), ` ${option}`))),
    pictureBox(tally.counts.map((counts, i) => labelled(
      tile(ask.album.sheet, i, ask.album.count, say("picture {n}", { n: i + 1 })),
      counts))));
}

function pictureBox(nodes, numbered) {
  return el("div", { class: `pictures ${numbered ? "numbered" : ""}`, "data-count": nodes.length },
    el("div", { class: "tiles" }, nodes));
}

function observed(step) {
  const sets = step.show.filter((widget) => widget.widget === "set");
  const said = step.html && prose(step.html, "prose said");
  const asked = sets.find((widget) => widget.asked);
  const guesses = asked && guessHistogram(asked.asked, asked.tally, null);
  const side = el("div", { class: "side" }, guesses, said);
  const wide = sets.some((widget) => widget.sets.length > 1) || sets.length > 1;
  const kinds = step.show.map((widget) => `of-${widget.widget}`).join(" ");
  const shown = step.show.map((widget) => WIDGETS[widget.widget](widget, null, { slide: true }));
  if (!shown.length) return el("div", { class: "slide-body thought" }, said);
  return el("div", { class: `slide-body observed ${kinds} ${wide ? "wide" : ""} ${guesses ? "guessed" : ""}` },
    el("div", { class: "shown" }, shown), (said || guesses) && side);
}

// --- fitting ---------------------------------------------------------------------------------------------------------

// How many columns make the tiles largest: {columns, size}. `extra` is the height below each tile, in pixels.
export function columnsFor(count, width, height, gap, extra = 0) {
  let best = { columns: 1, size: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const size = Math.floor(Math.min((width - gap * (columns - 1)) / columns,
      (height - gap * (rows - 1)) / rows - extra));
    if (size > best.size) best = { columns, size };
  }
  return best;
}

function layTiles(node) {
  for (const box of node.querySelectorAll(".pictures")) {
    const tiles = box.querySelector(".tiles");
    const gap = innerHeight / 180;
    const caption = tiles.querySelector("figcaption");
    const { columns, size } = columnsFor(tiles.children.length, box.clientWidth, box.clientHeight, gap,
      caption ? caption.offsetHeight + 1 : 0);
    tiles.style.gridTemplateColumns = `repeat(${columns}, ${Math.max(size, 1)}px)`;
    tiles.style.gap = `${gap}px`;
  }
}

const over = (node) => node.scrollHeight > node.clientHeight || node.scrollWidth > node.clientWidth;
const PARTS = ".slide-body, .shown, .side, .halves, .whole, .widget, .set, .tally";
const tooLong = (node) => [node, ...node.querySelectorAll(PARTS)].some((part) => over(part));

// Sets the largest text with which nothing is cut off; the step's own text goes before an answer is cut.
export function fit(node) {
  const set = (share) => {
    node.style.fontSize = `${innerHeight * share}px`;
    layTiles(node);
  };
  const most = node.querySelector(".pictures, .tiles, .map, .rulers, .big-code") ? BESIDE : LARGEST;
  const steps = Math.round((most - SMALLEST) / STEP);
  for (const part of node.querySelectorAll(".said")) part.hidden = false;
  const largest = () => {
    let [low, high] = [0, steps + 1]; // `low` fits, or nothing does
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      set(SMALLEST + STEP * middle);
      if (tooLong(node)) high = middle;
      else low = middle;
    }
    set(SMALLEST + STEP * low);
  };
  largest();
  if (!tooLong(node)) return;
  for (const part of node.querySelectorAll(".said")) part.hidden = true; // phones and the facilitator have it
  largest();
}
