// The facilitator's page: one main button that always says what comes next; keys N, R, B, H; nothing that a class must
// not see.
import { $, announce, ask, BASE, button, el, plural, poll, prose, randomWord, recall, remember, save,
  show } from "./dom.js";
import { renderStep } from "./stage.js";

const code = decodeURIComponent(location.pathname.split("/room/")[1].split("/")[0]).toUpperCase();
const secret = location.hash.slice(1) || recall(`host ${code}`) || "";
const HERE = `rooms/${encodeURIComponent(code)}`;
const ALWAYS = ["hide", "show", "cover", "uncover", "lock", "unlock"]; // never too late, never held back by another act
const KINDS = { predict: "Predict", observe: "Observe", explain: "Explain", change: "Change" };
let state = null;
let etag = "";
let drawn = "";
let busy = false;
let turn = () => {};

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
  const now = JSON.stringify(
    [state.place, state.phase, state.hidden, state.covered, state.locked, state.lesson.id, state.tally]);
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
        state.covered && el("span", { class: "chip warn" }, "pictures covered")),
    !over && el("div", { class: "actions" },
      button([words, el("kbd", {}, "N")], () => act(name), "main", { id: "next" }),
      state.phase === "closed" && button(["Ask again", el("kbd", {}, "R")], () => act("rerun"), "quiet",
        { id: "rerun" }),
      state.index > 0 && state.phase !== "waiting" && button("Back", () => act("back"), "quiet", { id: "back" }),
      button([state.hidden ? "Show screens" : "Hide screens", el("kbd", {}, "H")],
        () => act(state.hidden ? "show" : "hide"), "quiet", { id: "hide" }),
      button([state.covered ? "Uncover pictures" : "Cover all pictures", el("kbd", {}, "B")],
        () => act(state.covered ? "uncover" : "cover"), "quiet panic", { id: "cover" })),
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
      : prose(state.notes));
}

function preview(over) {
  if (over || state.phase === "waiting") return null;
  const made = renderStep(state.step, { number: state.index + 1, of: state.steps.length,
    closed: state.phase === "closed", tally: state.tally, asking: false });
  return el("div", { class: "preview" }, el("p", { class: "soft" }, "What the class sees"), made.node);
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
  const paper = (what, title) => el("a",
    { href: `${BASE}print/${state.lesson.id}/${what}`, target: "_blank", rel: "noopener" }, title);
  return el("div", { class: "card more" }, el("h2", {}, "More"),
    el("p", {}, "Print: ", paper("guide", "guide"), ", ", paper("worksheet", "worksheet"), ", ",
      paper("key", "answer key")),
    el("p", {}, button("Download the class summary", download, "quiet", { id: "download" })),
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
