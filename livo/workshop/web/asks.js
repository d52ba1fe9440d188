// Questions that are answered without writing: a number, a choice, labels. Native controls, so that every key works.
import { BASE, button, el } from "./dom.js";
import { promptAsk } from "./drawn.js";
import { say } from "./language.js";

const COLUMNS = 10; // pictures in a row of a sheet

// One picture of a sheet; `label` is what a screen reader says.
export function tile(sheet, place, count, label) {
  const rows = Math.ceil(count / COLUMNS);
  const [column, row] = [place % COLUMNS, Math.floor(place / COLUMNS)];
  return el("span", {
    class: "tile", role: "img", "aria-label": label,
    style: {
      backgroundImage: `url("${BASE}pictures/${encodeURIComponent(sheet)}")`,
      backgroundSize: `${COLUMNS * 100}% ${rows * 100}%`,
      backgroundPosition: `${(100 * column) / (COLUMNS - 1)}% ${rows > 1 ? (100 * row) / (rows - 1) : 0}%`,
    },
  });
}

let counter = 0;
const fresh = (name) => `${name}-${(counter += 1)}`;

// {node, value(), set(value), lock()}; `changed` is called after each change; value() is null until it is an answer.
// `game` is what a question of kind "prompt" needs: see `promptAsk`.
export function renderAsk(ask, changed = () => {}, game = {}) {
  const made = { number, choice, labels, prompt: promptAsk }[ask.kind](ask, changed, game);
  const title = el("legend", {});
  title.innerHTML = ask.question;
  made.node.prepend(title);
  made.lock = () => made.node.querySelectorAll("input, button").forEach((input) => { input.disabled = true; });
  return made;
}

function number(ask, changed) {
  let touched = false;
  const id = fresh("number");
  const range = el("input", { type: "range", id, min: ask.min, max: ask.max, step: 1,
    value: Math.round((ask.min + ask.max) / 2) });
  const out = el("output", { for: id, class: "number" });
  const label = el("label", { for: id, class: "soft" }, say("Drag it, or press − and +"));
  const draw = () => {
    out.textContent = touched ? `${range.value} ${ask.unit}` : say("no guess yet");
    out.classList.toggle("empty", !touched);
    range.setAttribute("aria-valuetext", out.textContent);
  };
  const touch = () => { touched = true; draw(); changed(); };
  range.addEventListener("input", touch);
  range.addEventListener("keydown", (event) => event.key === "Enter" && touch());
  const step = (by) => () => { range.value = Number(range.value) + by; touch(); };
  draw();
  return {
    node: el("fieldset", { class: "ask" }, out,
      el("div", { class: "range" }, button("−", step(-1), "quiet small", { "aria-label": say("one less") }), range,
        button("+", step(1), "quiet small", { "aria-label": say("one more") })),
      el("p", { class: "ends" }, el("span", {}, ask.min), label, el("span", {}, ask.max))),
    value: () => (touched ? Number(range.value) : null),
    set: (value) => { if (value != null) { touched = true; range.value = value; draw(); } },
  };
}

function radios(options, name, changed, kind = "option") {
  return options.map((option, place) => el("label", { class: kind },
    el("input", { type: "radio", name, value: place, onchange: changed }), el("span", {}, option)));
}

const picked = (node, name) => {
  const input = node.querySelector(`input[name="${name}"]:checked`);
  return input ? Number(input.value) : null;
};

function choice(ask, changed) {
  const name = fresh("choice");
  const node = el("fieldset", { class: "ask" }, el("div", { class: "options" }, radios(ask.options, name, changed)));
  return {
    node,
    value: () => picked(node, name),
    set: (value) => { if (value != null) node.querySelectorAll("input")[value].checked = true; },
  };
}

function labels(ask, changed) {
  const names = [];
  const count = ask.album ? ask.album.count : ask.items.length;
  const rows = Array.from({ length: count }, (_, i) => {
    const name = fresh("label");
    names.push(name);
    const what = ask.album ? say("picture {n}", { n: i + 1 }) : ask.items[i];
    return el("fieldset", { class: ask.album ? "label-picture" : "label-item" },
      el("legend", {}, what), ask.album && tile(ask.album.sheet, i, count, what),
      el("div", { class: "segments" }, radios(ask.options, name, () => { left(); changed(); }, "segment")));
  });
  const status = el("p", { class: "soft", role: "status" });
  const node = el("fieldset", { class: "ask" }, el("div", { class: ask.album ? "label-grid" : "label-list" }, rows),
    status);
  const values = () => names.map((name) => picked(node, name));
  const left = () => {
    const open = values().filter((value) => value === null).length;
    status.textContent = open ? say("{open} of {count} left", { open, count }) : say("all done");
  };
  left();
  return {
    node,
    value: () => (values().includes(null) ? null : values()),
    set: (value) => {
      if (value == null) return;
      names.forEach((name, i) => { node.querySelectorAll(`input[name="${name}"]`)[value[i]].checked = true; });
      left();
    },
  };
}
