// The facilitator's page: one main button that always says what comes next; keys N, R, B, H; nothing that a class must
// not see.
import { $, announce, ask, BASE, button, el, plural, poll, prose, randomWord, recall, remember, save,
  show } from "./dom.js";
import { countdown } from "./countdown.js";
import { renderStep } from "./stage.js";

const code = decodeURIComponent(location.pathname.split("/room/")[1].split("/")[0]).toUpperCase();
const secret = location.hash.slice(1) || recall(`host ${code}`) || "";
const HERE = `rooms/${encodeURIComponent(code)}`;
const ALWAYS = ["hide", "show", "cover", "uncover", "lock", "unlock", "pace"]; // never too late, never held back
const PACES = { 0: "all at once", 60: "fast", 150: "one by one", 400: "slowly" };
const KINDS = { predict: "Predict", observe: "Observe", explain: "Explain", change: "Change" };
let state = null;
let etag = "";
let drawn = "";
let busy = false;
let turn = () => {};
let left = null; // seconds of the countdown
const clock = countdown((now) => {
  left = now;
  const node = $("clock");
  if (node) node.textContent = clockWords();
  if (now === 0 && state?.phase === "open") act("close");
});

const clockWords = () => (left === null ? "" : left ? `closes in ${left} s` : "time is up");

async function news() {
  const { status, payload, etag: mark } = await ask(`${HERE}/host`, { word: secret, etag });
  if (status === 304) return true;
  if (status === 404 || status === 401) {
    show(el("div", { class: "card narrow" }, el("h1", {}, "This room cannot be led from here"),
      el("p", {}, payload.message), el("a", { href: BASE }, "Open another room")));
    return false;
  }
  if (status !== 200) { announce("The server cannot be reached; the page tries again. Nothing is lost.", "warn");
    etag = ""; return true; }
  announce("");
  remember(`host ${code}`, secret);
  if (recall(`host ${code}`) === secret) history.replaceState(null, "", location.pathname); // no projector shows it
  etag = mark;
  state = payload;
  draw();
  return true;
}

async function act(name, more = {}) {
  if ((busy && !ALWAYS.includes(name)) || !state) return;
  busy = true;
  const { status, payload } = await ask(`${HERE}/acts`,
    { word: secret, body: { key: randomWord(), act: name, at: state.changes, ...more } });
  busy = false;
  if (status && status !== 200 && payload.code !== "moved_on") announce(payload.message, "warn");
  if (!status) announce("The server cannot be reached; press again when it is back.", "warn");
  etag = "";
  await turn();
}

// What the main button does now: [words, act].
function nextAct() {
  if (state.phase === "waiting") return ["Start the lesson", "start"];
  if (state.phase === "open" && state.step?.ask) return ["Close the answers", "close"];
  if (state.index + 1 < state.steps.length) return ["Next step", "next"];
  return ["End the room", "end"];
}

function draw() {
  $("title").textContent = `Facilitator · ${state.lesson.title}`;
  document.title = `Facilitator · ${code}`;
  document.body.classList.toggle("covered", state.covered);
  const answered = document.querySelector(".answered");
  if (answered) answered.textContent = counts();
  const remove = $("remove");
  if (remove) {
    remove.disabled = !state.newcomers;
    remove.textContent = newcomers();
  }
  clock.set(state.left);
  const now = JSON.stringify([state.place, state.phase, state.hidden, state.covered, state.locked, state.lesson.id,
    state.tally, state.left === null, state.pace, state.simulated]);
  if (now === drawn) return;
  drawn = now;
  const focused = document.activeElement?.id;
  const over = state.phase === "ended";
  show(el("div", { class: "desk" }, el("section", { class: "desk-main" }, controls(over), notes(over), preview(over)),
    el("aside", { class: "desk-side" }, invitation(), plan(), over ? null : door(), more(over))));
  (focused && $(focused) ? $(focused) : $("next"))?.focus({ preventScroll: true });
}

function counts() {
  if (state.phase === "open"
    && state.step?.ask) return `${state.answered} of ${Math.max(state.here, state.answered)} answered`;
  return `${plural(state.here, "device")} here`;
}

function controls(over) {
  const status = over ? "The room has ended" : { waiting: "Not started", open: "Open", closed: "Closed" }[state.phase];
  const few = state.phase === "open" && state.step?.ask && !state.hidden;
  const [words, name] = nextAct();
  return el("div", { class: "card controls-card" },
    el("p", { class: "status-line" }, el("span", { class: `chip ${state.phase === "open" ? "on" : ""}` }, status),
      el("b", { class: "answered" }, counts()),
      state.hidden && el("span", { class: "chip warn" }, "screens hidden"),
        state.covered && el("span", { class: "chip warn" }, "pictures covered"),
        state.simulated && el("span", { class: "chip warn" }, `rehearsal: ${state.simulated} simulated pupils`),
        el("span", { class: "chip", id: "clock", role: "timer" }, clockWords())),
    !over && el("div", { class: "actions" },
      button([words, el("kbd", {}, "N")], () => act(name), "main", { id: "next" }),
      state.phase === "closed" && button(["Ask again", el("kbd", {}, "R")], () => act("rerun"), "quiet",
        { id: "rerun" }),
      state.index > 0 && state.phase !== "waiting" && button("Back", () => act("back"), "quiet", { id: "back" }),
      button([state.hidden ? "Show screens" : "Hide screens", el("kbd", {}, "H")],
        () => act(state.hidden ? "show" : "hide"), "quiet", { id: "hide" }),
      button([state.covered ? "Uncover pictures" : "Cover all pictures", el("kbd", {}, "B")],
        () => act(state.covered ? "uncover" : "cover"), "quiet panic", { id: "cover" })),
    few && el("div", { class: "actions clock-actions" },
      button("Close in 10 seconds", () => act("countdown", { value: 10 }), "quiet", { id: "close-soon" }),
      button(left === null ? "Give 60 seconds" : "30 seconds more",
        () => act("countdown", { value: left === null ? 60 : left + 30 }), "quiet", { id: "more-time" }),
      left !== null && button("Stop the clock", () => act("countdown", { value: 0 }), "quiet", { id: "stop-clock" })),
    few && el("p", { class: "soft" },
      `The class's answers are shown after you close the question, from ${state.fewest} answers on.`));
}

function notes(over) {
  if (over) return el("div", { class: "card" }, el("h2", {}, "Afterwards"),
    el("p", {},
    "Ask how the class feels. Say where to go with questions. Download the summary below: it holds counts only."));
  return el("div", { class: "card notes" }, el("h2", {}, state.phase === "waiting" ? "Before you start" : "For you"),
    state.phase === "waiting" ? el("p", {},
      "Put the projector view on the big screen and wait until the devices are here. " +
        "Say that everybody may leave or cover the pictures at any time, and that no names are kept.")
      : prose(state.notes), rehearsal());
}

// Simulated pupils answer every question at once; nothing of them is stored.
function rehearsal() {
  if (state.simulated) {
    return el("p", {}, button("End the rehearsal", () => act("real"), "quiet", { id: "real" }),
      el("span", { class: "soft" }, " The lesson begins anew, without simulated pupils."));
  }
  if (state.phase !== "waiting") return null;
  return el("p", {}, button("Try with 20 simulated pupils", () => act("rehearse"), "quiet", { id: "rehearse" }),
    el("span", { class: "soft" }, " Marked on every screen, and in no summary."));
}

function preview(over) {
  if (over || state.phase === "waiting") return null;
  const made = renderStep(state.step, { number: state.index + 1, of: state.steps.length,
    closed: state.phase === "closed", tally: state.tally, asking: false });
  return el("details", { class: "preview", open: !matchMedia("(max-width: 820px)").matches },
    el("summary", {}, "What the class sees"), made.node);
}

function invitation() {
  return el("div", { class: "card invitation" }, el("h2", {}, "Join"),
    el("p", { class: "big-code" }, code.slice(0, 3), " ", code.slice(3)),
    el("img", { class: "qr", src: `${BASE}api/rooms/${code}/qr.svg`, alt: `QR code of ${state.join}` }),
      el("p", { class: "address" }, state.join),
    el("a", { class: "button", href: `${location.pathname.replace(/host$/, "screen")}`, target: "_blank",
      rel: "noopener" }, "Projector view"));
}

const newcomers = () => `Take out ${plural(state.newcomers, "newcomer")}`;

// Against strangers who have the code.
function door() {
  return el("div", { class: "card" }, el("h2", {}, "Who may answer"),
    el("p", { class: "row" },
      button(state.locked ? "Let newcomers in" : "Lock the room", () => act(state.locked ? "unlock" : "lock"), "quiet",
        { id: "lock", "aria-pressed": String(state.locked) }),
      button(newcomers(), () => confirm("Their answers go, they can answer no more, and the room is locked. Go on?") &&
        act("remove"), "quiet", { id: "remove", disabled: !state.newcomers })),
    el("p", { class: "soft" }, "Newcomers are devices whose first answer is to this question. " +
      "A locked room takes answers only from those who answered before."));
}

function plan() {
  return el("div", { class: "card" }, el("h2", {}, "Steps"),
    el("ol", { class: "plan" }, state.steps
    .map((step, i) => el("li", { "aria-current": i === state.index && state.phase !== "waiting" ? "step" : null },
    el("span", { class: `kind ${step.kind}` }, KINDS[step.kind]),
      ` ${step.kind === "change" ? "What would change your mind?" : step.title}`,
      el("span", { class: "soft" }, ` ${step.minutes} min`)))),
    el("p", { class: "soft" }, state.school ? "School mode is on." : "School mode is off."));
}

function more(over) {
  const select = el("select", { id: "lesson", "aria-label": "Another lesson in this room" },
    state.lessons.map((one) => el("option", { value: one.id, selected: one.id === state.lesson.id }, one.title)));
  const pace = el("select", { id: "pace", onchange: () => act("pace", { value: Number(pace.value) }) },
    state.paces.map((one) => el("option", { value: one, selected: one === state.pace }, PACES[one] ?? `${one} ms`)));
  const paper = (what, title) => el("a",
    { href: `${BASE}print/${state.lesson.id}/${what}`, target: "_blank", rel: "noopener" }, title);
  return el("div", { class: "card more" }, el("h2", {}, "More"),
    el("p", {}, "Print: ", paper("guide", "guide"), ", ", paper("worksheet", "worksheet"), ", ",
      paper("key", "answer key")),
    el("p", { class: "row" }, el("label", { for: "pace" }, "Pictures are turned over"), pace),
    el("p", { class: "row" }, button("Download the class summary", download, "quiet", { id: "download" }),
      button("Download the recap page", recap, "quiet", { id: "recap" })),
    !over && el("p", { class: "row" }, select,
      button("Run this lesson", () => act("lesson", { lesson: select.value }), "quiet", { id: "run" })),
    el("p", {}, over ? button("Reopen the room", () => act("reopen"), "quiet", { id: "reopen" })
      : button("End the room", () => act("end"), "quiet", { id: "end" })),
    el("p", { class: "row" }, button("Copy my link", copyLink, "quiet", { id: "link" })),
    el("p", { class: "soft" },
      "This browser remembers that you lead the room. For another one, the link is the key: show it to nobody."));
}

function copyLink() {
  const link = `${location.origin}${location.pathname}#${secret}`;
  const ask = () => prompt("Your link", link); // plain http has no clipboard
  if (!navigator.clipboard) return ask();
  return navigator.clipboard.writeText(link).then(() => announce("The link is copied."), ask);
}

// What the class saw and answered, as one page for the class: counts only, opened without a network.
function recap() {
  return save(`${HERE}/recap.html`, secret, `class-recap-${code}.html`)
    .catch(() => announce("The recap cannot be had now; try again.", "warn"));
}

function download() {
  return save(`${HERE}/summary.csv`, secret, `class-summary-${code}.csv`)
    .catch(() => announce("The summary cannot be had now; try again.", "warn"));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !state || state.phase === "ended"
    || event.target.closest("select, input")) return;
  const key = event.key.toLowerCase();
  if (key === "n" && nextAct()[1] !== "end") act(nextAct()[1]); // the end wants the button itself
  else if (key === "r" && state.phase === "closed") act("rerun");
  else if (key === "b") act(state.covered ? "uncover" : "cover");
  else if (key === "h") act(state.hidden ? "show" : "hide");
});

turn = poll(news, 1000);
