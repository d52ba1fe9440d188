// Bars of shares, tallies of a class, and the map of a trade-off, as HTML and SVG; numbers always stand beside the
// marks.
import { tile } from "./asks.js";
import { el, percent, svg } from "./dom.js";
import { boardOf } from "./drawn.js";
import { wilson } from "./figures.js";
import { say } from "./language.js";

// Shares with their intervals; `mark` is a share to compare with.
export function shareBars(classes, counts, { words = (name) => name, mark = null } = {}) {
  const n = counts.reduce((a, b) => a + b, 0);
  return el("div", { class: "bars" }, classes.map((name, k) => {
    const [low, high] = wilson(counts[k], n);
    return el("div", { class: "bar-row" },
      el("span", { class: "bar-name" }, words(name)),
      el("span", { class: "bar-track", "aria-hidden": "true" },
        el("i", { class: `bar-fill shade-${k}`, style: { width: `${(100 * counts[k]) / n}%` } }),
        el("i", { class: "bar-interval", style: { left: `${100 * low}%`, width: `${100 * (high - low)}%` } }),
        mark && mark[k] != null && el("i", { class: "bar-mark", style: { left: `${100 * mark[k]}%` } })),
      el("span", { class: "bar-number" }, el("b", {}, counts[k],
        el("span", { class: "of-words" }, say(" of {n}", { n }))),
        el("span", { class: "range-words" },
          ` · ${percent(counts[k] / n)} (${Math.round(100 * low)}–${Math.round(100 * high)})`)));
  }));
}

// What the class answered; `mine` is this person's own answer.
export function tallyOf(ask, tally, mine) {
  if (!tally) return null;
  if (!tally.enough) {
    return el("p", { class: "note" },
      say("Fewer than {n} people answered.", { n: tally.fewest }), " ",
      say("The class’s answers are not shown, so that nobody can be recognised."));
  }
  if (ask.kind === "prompt") return el("section", { class: "tally" }, boardOf(tally));
  const head = el("h3", {}, tally.n === 1 ? say("The class: 1 answer") : say("The class: {n} answers", { n: tally.n }));
  if (ask.kind === "labels") return el("section", { class: "tally" }, head, labelTally(ask, tally, mine));
  if (ask.kind === "choice") {
    return el("section", { class: "tally" }, head,
      ask.options.map((option, k) => row(option, tally.counts[k], tally.n, {
      mine: mine === k, right: ask.right?.includes(k),
    })));
  }
  return el("section", { class: "tally" }, head, histogram(tally),
    mine != null && el("p", { class: "soft" }, say("Your guess: {guess} {unit}", { guess: mine, unit: ask.unit })));
}

function histogram(tally) {
  const top = Math.max(...tally.counts);
  return el("div", { class: "histogram-box" },
    el("div", { class: "histogram", role: "img",
      "aria-label": tally.counts.map((count, k) =>
        `${say("{low} to {high}", { low: tally.edges[k], high: tally.edges[k + 1] })}: ${count}`).join("; ") },
    tally.counts.map((count) => el("i", { style: { height: `${(100 * count) / top}%` } }, el("b", {}, count || "")))),
    el("p", { class: "ends" }, el("span", {}, tally.edges[0]), 
      el("span", {}, say("middle guess: {guess}", { guess: tally.median })),
      el("span", {}, tally.edges.at(-1))));
}

// The class's guesses, and the truth that walks in among them; without a class, this person's guess on the same line.
export function guessHistogram(asked, tally, own) {
  const at = (value) => `${(100 * (value - asked.min)) / (asked.max - asked.min)}%`;
  const many = tally?.enough;
  const truth = el("span", { class: "truth", style: { left: at(asked.truth) } });
  const words = el("p", { class: "guess truth-words" }, [own != null && say("Your guess: {guess}", { guess: own }),
    many && say("middle guess of the class: {guess}", { guess: tally.median }),
    say("the classifier counted {n} {unit}", { n: asked.truth, unit: asked.unit })]
    .filter(Boolean).join(" · "));
  return el("section", { class: `guesses ${many ? "" : "alone"}` },
    el("div", { class: "guess-plot" },
      many ? histogram(tally)
        : [el("div", { class: "guess-line" }), el("p", { class: "ends" }, el("span", {}, asked.min),
          el("span", {}, asked.max))],
      own != null && el("span", { class: "own-guess", style: { left: at(own) } }), truth), words);
}

function row(name, count, n, { mine = false, right = false } = {}) {
  return el("div", { class: `bar-row${right ? " right" : ""}` },
    el("span", { class: "bar-name" }, name, mine && el("span", { class: "chip" }, say("yours")),
      right && el("span", { class: "chip good" }, `✓ ${say("fits best")}`)),
    el("span", { class: "bar-track", "aria-hidden": "true" },
      el("i", { class: "bar-fill shade-1", style: { width: `${(100 * count) / n}%` } })),
    el("span", { class: "bar-number" }, el("b", {}, count), ` · ${percent(count / n)}`));
}

function labelTally(ask, tally, mine) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("The class’s labels") },
    el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ask.items.length ? say("prompt") : say("picture")),
      ask.options.map((o) => el("th", { scope: "col", class: "number" }, o)),
      mine && el("th", { scope: "col" }, say("you")))),
    el("tbody", {}, tally.counts.map((counts, i) => el("tr", {},
      el("th", { scope: "row" }, ask.items[i] ?? [`${i + 1} `,
        tile(ask.album.sheet, i, ask.album.count, say("picture {n}", { n: i + 1 }))]),
      counts.map((count) => el("td", { class: `number${count === Math.max(...counts) ? " most" : ""}` }, count)),
      mine && el("td", {}, ask.options[mine[i]]))))));
}

// The map of a trade-off: lower is better on both axes. Points are buttons; the one chosen is read out below.
export function tradeOff(chart, { slide = false } = {}) {
  const narrow = matchMedia("(max-width: 820px)").matches; // text keeps its size, the drawing does not
  const [width, height] = narrow ? [360, 400] : [slide ? 860 : 640, 420];
  const pad = { left: 62, right: 24, top: 18, bottom: 54 };
  const points = chart.series.flatMap((series, s) =>
    series.points.map((point) => ({ ...point, low: point.low ?? point.y, high: point.high ?? point.y, s,
      series: series.name })));
  const right = nice(Math.max(...points.map((p) => p.x)) * 1.12);
  const top = nice(Math.max(...points.map((p) => p.high)) * 1.05);
  const x = (value) => pad.left + ((width - pad.left - pad.right) * value) / right;
  const y = (value) => height - pad.bottom - ((height - pad.top - pad.bottom) * value) / top;
  const ticks = (most) => Array.from({ length: 5 }, (_, k) => (most * k) / 4);
  const front = [...points].sort((a, b) => a.x - b.x || a.y - b.y)
    .reduce((kept, p) => (kept.length && p.y >= kept.at(-1).y ? kept : [...kept, p]), []);
  const reading = el("p", { class: "reading", role: "status" }, say("Choose a point to read it."));
  const choose = (point, node) => {
    node.closest("svg").querySelectorAll(".chosen").forEach((other) => other.classList.remove("chosen"));
    node.classList.add("chosen");
    reading.replaceChildren(el("b", {}, name(point)),
      `: ${label(chart.y_label)} ${point.y.toFixed(1)} ` +
        `(${say("{low} to {high}", { low: point.low.toFixed(1), high: point.high.toFixed(1) })}), ` +
        `${label(chart.x_label)} ${point.x.toFixed(1)}. `,
      front.includes(point) ? say("It is on the front: nobody beats it on both goals.")
        : say("Another method beats it on both goals."));
  };
  const labels = placed(points, x, y, [pad.left, width - pad.right, height - pad.bottom]);
  const marks = points.map((point) => {
    const node = svg("g", { class: `point series-${point.s}`, tabindex: 0, role: "button",
      "aria-label": `${name(point)}: ${point.y.toFixed(1)}, ${point.x.toFixed(1)}` },
      svg("line", { x1: x(point.x), x2: x(point.x), y1: y(Math.max(0, point.low)), y2: y(point.high) }),
      svg("circle", { cx: x(point.x), cy: y(point.y), r: 18, class: "target" }),
      svg("circle", { cx: x(point.x), cy: y(point.y), r: 7 }),
      labels.get(point)?.y < y(point.y) - 30 && svg("line", { class: "leader", x1: x(point.x), x2: labels.get(point).x,
        y1: y(point.y) - 7, y2: labels.get(point).y + 3 }),
      labels.has(point) && svg("text", labels.get(point), say(point.label)));
    node.addEventListener("click", () => choose(point, node));
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(point, node); }
    });
    return node;
  });
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "map", role: "group",
    "aria-label": say("{y} against {x}; lower is better on both",
      { x: label(chart.x_label), y: label(chart.y_label) }) },
    ticks(top).map((t) =>
      svg("g", { class: "tick" }, svg("line", { x1: pad.left, x2: width - pad.right, y1: y(t), y2: y(t) }),
      svg("text", { x: pad.left - 8, y: y(t) + 4, "text-anchor": "end" }, short(t)))),
    ticks(right).map((t) =>
      svg("g", { class: "tick" }, svg("text", { x: x(t), y: height - pad.bottom + 20, "text-anchor": "middle" },
      short(t)))),
    svg("text", { class: "axis", x: (pad.left + width - pad.right) / 2, y: height - 10, "text-anchor": "middle" },
      narrow ? label(chart.x_label) : `${label(chart.x_label)} · ${say("left is closer to the original")}`),
    svg("text", { class: "axis", x: 16, y: height / 2, "text-anchor": "middle",
      transform: `rotate(-90 16 ${height / 2})` }, `${label(chart.y_label)} · ${say("down is better")}`),
    svg("polyline", { class: "front", points: front.map((p) => `${x(p.x)},${y(p.y)}`).join(" ") }), marks);
  return el("div", { class: "chart" }, drawing, reading,
    chart.series.length > 1 && el("p", { class: "soft" },
      say("Small points: {names}.", { names: chart.series.slice(1).map((s) => say(s.name)).join(", ") })),
    el("details", {}, el("summary", {}, say("How it was measured")), el("p", { class: "soft" }, say(chart.note))));
}

const name = (point) => (point.s === 0 ? say(point.label)
  : say("LiVO with γ₁, γ₂ = {margins}", { margins: point.label }));
const label = (text) => say(text.replace(" ↓", "").replace("FID (x 100)", "distance (FID x 100)")
  .replace("clean distance", "distance"));
const short = (value) => (value >= 10 ? Math.round(value) : Number(value.toFixed(2)));

// Where the points' names stand: beside their points, none over another one or over a point; one that has no room is
// read when its point is chosen.
function placed(points, x, y, [begin, edge, bottom]) {
  const [letter, height] = [8.4, 17];
  const taken = points.map((point) => [x(point.x) - 8, y(point.y) - 8, x(point.x) + 8, y(point.y) + 8]);
  const free = (box) => box[0] > begin && box[2] < edge + 20 && box[3] < bottom
    && taken.every((other) => box[2] < other[0] || other[2] < box[0] || box[3] < other[1] || other[3] < box[1]);
  const found = new Map();
  for (const point of points.filter((one) => one.s === 0)) {
    const [px, py, wide] = [x(point.x), y(point.y), letter * point.label.length];
    const choices = [[12, 5, "start"], [12, -8, "start"], [12, 19, "start"], [-12, 5, "end"], [-12, -8, "end"],
      [-12, 19, "end"], [0, -14, "middle"], [0, 26, "middle"],
      ...[36, 54, 72, 90, 108].flatMap((up) => [[6, -up, "start"], [-6, -up, "end"]])]; // with a line to the point
    for (const [dx, dy, anchor] of choices) {
      const left = px + dx - { start: 0, end: wide, middle: wide / 2 }[anchor];
      const box = [left, py + dy - height + 4, left + wide, py + dy + 4];
      if (!free(box)) continue;
      taken.push(box);
      found.set(point, { x: px + dx, y: py + dy, "text-anchor": anchor });
      break;
    }
  }
  return found;
}

function nice(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((step) => step * unit >= value) * unit;
}
