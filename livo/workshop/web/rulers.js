// Two rulers: shapes that are dragged, or moved by keys, between classes; D1 and D2 follow.
import { button, el, svg } from "./dom.js";
import { d1, d2 } from "./figures.js";
import { say } from "./language.js";

const SHAPES = [say("circles"), say("squares"), say("triangles"), say("stars"), say("hexagons")];
const [BASE, TOP] = [250, 24];
const TRAY = -1;
const figure = (value) => (value === null ? "–" : (100 * value).toFixed(1));

export function rulers(widget, own, { slide = false } = {}) {
  const [COLUMN, PIECE, ROW] = slide ? [184, 36, 4] : [matchMedia("(max-width: 820px)").matches ? 74 : 96, 20, 3];
  const counts = [...widget.counts];
  const total = counts.reduce((a, b) => a + b, 0);
  const kept = [];
  let chosen = 0;
  let drag = null;
  const width = COLUMN * (counts.length + 1);
  const board = svg("svg", { viewBox: `0 0 ${width} 300`, class: "rulers", "aria-hidden": "true" });
  const live = el("p", { class: "soft", role: "status" });
  const readings = el("dl", { class: "scores" });
  const list = el("ol", { class: "kept" });
  const found = el("p", { class: "found", role: "status" });

  const tray = () => total - counts.reduce((a, b) => a + b, 0);
  const columnOf = (k) => (k === TRAY ? counts.length : k);
  const classAt = (px) => {
    const column = Math.max(0, Math.min(counts.length, Math.floor(px / COLUMN)));
    return column === counts.length ? TRAY : column;
  };

  function move(from, to) {
    if (from === to || (from === TRAY ? tray() : counts[from]) === 0) return false;
    if (from !== TRAY) counts[from] -= 1;
    if (to !== TRAY) counts[to] += 1;
    draw();
    return true;
  }

  function change(k, by) {
    const done = by > 0 ? move(TRAY, k) : move(k, TRAY);
    live.textContent = done ? reading()
      : by > 0 ? say("The tray is empty: take a shape away from another class first.")
        : say("There are no {shapes} left.", { shapes: SHAPES[k] });
  }

  const reading = () =>
    `${counts.map((count, k) => `${count} ${SHAPES[k]}`).join(", ")}, ${say("{n} in the tray", { n: tray() })}. ` +
      `D1 ${figure(d1(counts))}, D2 ${figure(d2(counts))}.`;

  function draw() {
    const pieces = [];
    for (const k of [...counts.keys(), TRAY]) {
      const n = k === TRAY ? tray() : counts[k];
      const left = columnOf(k) * COLUMN;
      pieces.push(svg("rect",
        { x: left + 6, y: TOP - 14, width: COLUMN - 12, height: BASE - TOP + 28, rx: 10,
        class: `column${k === chosen ? " chosen" : ""}${k === TRAY ? " tray" : ""}` }));
      for (let i = 0; i < n; i += 1) {
        const px = left + COLUMN / 2 + ((i % ROW) - (ROW - 1) / 2) * (PIECE + 4);
        const py = BASE - (PIECE - 20) / 2 - Math.floor(i / ROW) * (PIECE + 5);
        pieces.push(shape(k, px, py, PIECE, { class: `piece shade-${k === TRAY ? "tray" : k}`, "data-class": k }));
      }
      pieces.push(svg("text", { x: left + COLUMN / 2, y: BASE + 34, "text-anchor": "middle", class: "count" }, n));
    }
    board.replaceChildren(...pieces);
    readings.replaceChildren(score("D1", d1(counts), say("largest share minus smallest")),
      score("D2", d2(counts), say("all shares against equal ones")));
    for (const [k, out] of outs.entries()) out.textContent = counts[k];
    trayOut.textContent = tray();
  }

  function score(title, value, meaning) {
    return el("div", {}, el("dt", {}, title),
      el("dd", {}, el("b", {}, figure(value)),
      el("span", { class: "meter", "aria-hidden": "true" }, el("i", { style: { width: `${100 * (value ?? 0)}%` } })),
      el("small", {}, meaning)));
  }

  const point = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(board.getScreenCTM().inverse());
    return [at.x, at.y];
  };
  board.addEventListener("pointerdown", (event) => {
    const piece = event.target.closest(".piece");
    if (!piece) return;
    event.preventDefault();
    drag = { from: Number(piece.dataset.class), node: piece.cloneNode(), start: point(event) };
    piece.classList.add("lifted");
    drag.node.classList.add("flying");
    board.append(drag.node);
    board.setPointerCapture(event.pointerId);
  });
  board.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [px, py] = point(event);
    drag.node.setAttribute("transform", `translate(${px - drag.start[0]} ${py - drag.start[1]})`);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    board.addEventListener(end, (event) => {
      if (!drag) return;
      const { from } = drag;
      drag = null;
      if (end === "pointercancel" || !move(from, classAt(point(event)[0]))) draw();
      else live.textContent = reading();
    });
  }

  const outs = counts.map(() => el("output", {}));
  const trayOut = el("output", {});
  const controls = counts.map((_, k) => el("div", { class: "control", role: "group", "aria-label": SHAPES[k] },
    button("−", () => { chosen = k; change(k, -1); }, "quiet small",
      { "aria-label": say("one less of the {shapes}", { shapes: SHAPES[k] }) }),
    el("span", { class: "control-name" }, outs[k], ` ${SHAPES[k]}`),
    button("+", () => { chosen = k; change(k, 1); }, "quiet small",
      { "aria-label": say("one more of the {shapes}", { shapes: SHAPES[k] }) })));
  const box = el("div", { class: "board", tabindex: 0, role: "group",
    "aria-label": say("Shapes in classes. Left and right arrows choose a class; plus and minus add and take away."),
    onkeydown: (event) => {
    if (event.target !== box) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const by = { "+": 1, "=": 1, ArrowUp: 1, "-": -1, "−": -1, ArrowDown: -1 }[event.key];
    if (!step && !by) return;
    event.preventDefault();
    if (step) {
      chosen = (chosen + step + counts.length) % counts.length;
      draw();
      live.textContent = `${SHAPES[chosen]}: ${counts[chosen]}`;
    } else change(chosen, by);
  } }, board);

  function keep() {
    if (tray()) { live.textContent = say("Put the shapes of the tray into a class first."); return; }
    const one = { counts: [...counts], d1: figure(d1(counts)), d2: figure(d2(counts)) };
    if (kept.some((other) => String(other.counts) === String(
      one.counts))) { live.textContent = say("You have this set already."); return; }
    kept.push(one);
    list.replaceChildren(...kept.map((set) =>
      el("li", {}, el("b", {}, set.counts.join(", ")), ` · D1 ${set.d1} · D2 ${set.d2}`)));
    const pair = kept.find((other) => other !== one && other.d1 === one.d1 && other.d2 !== one.d2);
    if (pair) found.textContent = say(
      "You found it: {a} and {b} have the same D1 ({d1}), but D2 is {c} and {d}.",
      { a: pair.counts.join(", "), b: one.counts.join(", "), d1: one.d1, c: pair.d2, d: one.d2 });
  }

  draw();
  return el("div", { class: "widget" }, el("p", { class: "task" }, widget.task), box,
    el("div", { class: "controls" }, controls, el("p", { class: "soft" }, say("In the tray:"), " ", trayOut)),
    readings, live,
    el("div", { class: "actions" }, button(say("Remember this set"), keep),
      button(say("Begin again"), () =>
      { counts.splice(0, counts.length, ...widget.counts); draw(); live.textContent = reading(); })), list, found);
}

function shape(k, x, y, size, attributes) {
  const r = size / 2;
  if (k === 1) return svg("rect", { x: x - r + 1, y: y - r + 1, width: size - 2, height: size - 2, rx: 2,
    ...attributes });
  if (k === 0 || k === TRAY) return svg("circle", { cx: x, cy: y, r: k === TRAY ? r - 3 : r, ...attributes });
  const corners = { 2: 3, 3: 10, 4: 6 }[k];
  const points = Array.from({ length: corners }, (_, i) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * i) / corners;
    const reach = k === 3 && i % 2 ? r * 0.5 : r * 1.12;
    const down = y + reach * Math.sin(angle) + (k === 2 ? 2 : 0);
    return `${(x + reach * Math.cos(angle)).toFixed(1)},${down.toFixed(1)}`;
  });
  return svg("polygon", { points: points.join(" "), ...attributes });
}
