// The facilitator's page: one main button that always says what comes next; keys N, R, B, H; nothing that a class must
// not see.
import { $, announce, ask, BASE, button, el, poll, prose, randomWord, recall, remember, save,
  show } from "./dom.js";
import { countdown } from "./countdown.js";
import { devices, follow, hear, LANGUAGE, minutes, say } from "./language.js";
import { KINDS, renderStep } from "./stage.js";

const code = decodeURIComponent(location.pathname.split("/room/")[1].split("/")[0]).toUpperCase();
const secret = location.hash.slice(1) || recall(`host ${code}`) || "";
const HERE = `rooms/${encodeURIComponent(code)}`;
const ALWAYS = ["hide", "show", "cover", "uncover", "lock", "unlock", "pace"]; // never too late, never held back
const PACES = { 0: say("all at once"), 60: say("fast"), 150: say("one by one"), 400: say("slowly") };
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

const clockWords = () => (left === null ? "" : left ? say("closes in {left} s", { left }) : say("Time is up"));

async function news() {
  const { status, payload, etag: mark } = await ask(`${HERE}/host${LANGUAGE}`, { word: secret, etag });
  if (status === 304) return true;
  if (status === 404 || status === 401) {
    show(el("div", { class: "card narrow" }, el("h1", {}, say("This room cannot be led from here")),
      el("p", {}, hear(payload.message)), el("a", { href: BASE }, say("Open another room"))));
    return false;
  }
  if (status !== 200) { announce(say("The server cannot be reached; the page tries again. Nothing is lost."), "warn");
    etag = ""; return true; }
  announce("");
  remember(`host ${code}`, secret);
  const kept = recall(`host ${code}`) === secret;
  if (kept) history.replaceState(null, "", location.pathname + LANGUAGE); // no projector shows it
  etag = mark;
  state = payload;
  follow(state.language);
  draw();
  return true;
}

async function act(name, more = {}) {
  if ((busy && !ALWAYS.includes(name)) || !state) return;
  busy = true;
  const { status, payload } = await ask(`${HERE}/acts`,
    { word: secret, body: { key: randomWord(), act: name, at: state.changes, ...more } });
  busy = false;
  if (status && status !== 200 && payload.code !== "moved_on") announce(hear(payload.message), "warn");
  if (!status) announce(say("The server cannot be reached; press again when it is back."), "warn");
  etag = "";
  await turn();
}

// What the main button does now: [words, act].
function nextAct() {
  if (state.phase === "waiting") return [say("Start the lesson"), "start"];
  if (state.phase === "open" && state.step?.ask) return [say("Close the answers"), "close"];
  if (state.index + 1 < state.steps.length) return [say("Next step"), "next"];
  return [say("End the room"), "end"];
}

function draw() {
  $("title").textContent = `${say("Facilitator")} · ${state.lesson.title}`;
  document.title = `${say("Facilitator")} · ${code}`;
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
    && state.step?.ask) return say("{n} of {of} answered",
    { n: state.answered, of: Math.max(state.here, state.answered) });
  return devices(state.here);
}

function controls(over) {
  const status = over ? say("This room has ended")
    : { waiting: say("Not started"), open: say("Open"), closed: say("Closed") }[state.phase];
  const few = state.phase === "open" && state.step?.ask && !state.hidden;
  const [words, name] = nextAct();
  return el("div", { class: "card controls-card" },
    el("p", { class: "status-line" }, el("span", { class: `chip ${state.phase === "open" ? "on" : ""}` }, status),
      el("b", { class: "answered" }, counts()),
      state.hidden && el("span", { class: "chip warn" }, say("screens hidden")),
        state.covered && el("span", { class: "chip warn" }, say("pictures covered")),
        state.simulated > 0 && el("span", { class: "chip warn" },
          say("rehearsal: {n} simulated pupils", { n: state.simulated })),
        el("span", { class: "chip", id: "clock", role: "timer" }, clockWords())),
    !over && el("div", { class: "actions" },
      button([words, el("kbd", {}, "N")], () => act(name), "main", { id: "next" }),
      state.phase === "closed" && button([say("Ask again"), el("kbd", {}, "R")], () => act("rerun"), "quiet",
        { id: "rerun" }),
      state.index > 0 && state.phase !== "waiting" && button(say("Back"), () => act("back"), "quiet", { id: "back" }),
      button([state.hidden ? say("Show screens") : say("Hide screens"), el("kbd", {}, "H")],
        () => act(state.hidden ? "show" : "hide"), "quiet", { id: "hide" }),
      button([state.covered ? say("Uncover pictures") : say("Cover all pictures"), el("kbd", {}, "B")],
        () => act(state.covered ? "uncover" : "cover"), "quiet panic", { id: "cover" })),
    few && el("div", { class: "actions clock-actions" },
      button(say("Close in 10 seconds"), () => act("countdown", { value: 10 }), "quiet", { id: "close-soon" }),
      button(left === null ? say("Give 60 seconds") : say("30 seconds more"),
        () => act("countdown", { value: left === null ? 60 : left + 30 }), "quiet", { id: "more-time" }),
      left !== null && button(say("Stop the clock"), () => act("countdown", { value: 0 }), "quiet",
        { id: "stop-clock" })),
    few && el("p", { class: "soft" }, state.step.ask.kind === "prompt"
      ? say("The board is shown from five people on, as counts only.")
      : say("The class’s answers are shown after you close the question, from {n} answers on.",
        { n: state.fewest })));
}

function notes(over) {
  if (over) return el("div", { class: "card" }, el("h2", {}, say("Afterwards")),
    el("p", {}, say("Ask how the class feels. Say where to go with questions."), " ",
      say("Download the recap below: it holds counts only.")), downloads());
  return el("div", { class: "card notes" },
    el("h2", {}, state.phase === "waiting" ? say("Before you start") : say("For you")),
    state.phase === "waiting" ? el("p", {},
      say("Put the projector view on the big screen and wait until the devices are here."), " ",
      say("Say that everybody may leave or cover the pictures at any time, and that no names are kept."))
      : prose(state.notes), rehearsal());
}

// Simulated pupils answer every question at once; nothing of them is stored.
function rehearsal() {
  if (state.simulated) {
    return el("p", {}, button(say("End the rehearsal"), () => act("real"), "quiet", { id: "real" }),
      el("span", { class: "soft" }, ` ${say("The lesson begins anew, without simulated pupils.")}`));
  }
  if (state.phase !== "waiting") return null;
  return el("p", {}, button(say("Try with 20 simulated pupils"), () => act("rehearse"), "quiet", { id: "rehearse" }),
    el("span", { class: "soft" }, ` ${say("Marked on every screen, and in no summary.")}`));
}

function preview(over) {
  if (over || state.phase === "waiting") return null;
  const made = renderStep(state.step, { number: state.index + 1, of: state.steps.length,
    closed: state.phase === "closed", tally: state.tally, asking: false });
  return el("details", { class: "preview", open: !matchMedia("(max-width: 820px)").matches },
    el("summary", {}, say("What the class sees")), made.node);
}

function invitation() {
  return el("div", { class: "card invitation" }, el("h2", {}, say("Join")),
    el("p", { class: "big-code" }, code.slice(0, 3), " ", code.slice(3)),
    el("img", { class: "qr", src: `${BASE}api/rooms/${code}/qr.svg${LANGUAGE}`,
      alt: say("QR code of {address}", { address: state.join }) }),
      el("p", { class: "address" }, state.join),
    el("a", { class: "button", href: `${location.pathname.replace(/host$/, "screen")}${LANGUAGE}`, target: "_blank",
      rel: "noopener" }, say("Projector view")));
}

const newcomers = () => (state.newcomers === 1 ? say("Take out 1 newcomer")
  : say("Take out {n} newcomers", { n: state.newcomers }));

// Against strangers who have the code.
function door() {
  return el("div", { class: "card" }, el("h2", {}, say("Who may answer")),
    el("p", { class: "row" },
      button(state.locked ? say("Let newcomers in") : say("Lock the room"), 
        () => act(state.locked ? "unlock" : "lock"), "quiet", { id: "lock", "aria-pressed": String(state.locked) }),
      button(newcomers(), () => confirm(
        say("Their answers go, they can answer no more, and the room is locked. Go on?")) && act("remove"),
      "quiet", { id: "remove", disabled: !state.newcomers })),
    el("p", { class: "soft" }, say("Newcomers are devices whose first answer is to this question."), " ",
      say("A locked room takes answers only from those who answered before.")));
}

function plan() {
  return el("div", { class: "card" }, el("h2", {}, say("Steps")),
    el("ol", { class: "plan" }, state.steps
    .map((step, i) => el("li", { "aria-current": i === state.index && state.phase !== "waiting" ? "step" : null },
    el("span", { class: `kind ${step.kind}` }, KINDS[step.kind]),
      ` ${step.kind === "change" ? say("What would change your mind?") : step.title}`,
      el("span", { class: "soft" }, ` ${minutes(step.minutes)}`)))),
    el("p", { class: "soft" }, state.school ? say("School mode is on.") : say("School mode is off.")));
}

function more(over) {
  const select = el("select", { id: "lesson", "aria-label": say("Another lesson in this room") },
    state.lessons.map((one) => el("option", { value: one.id, selected: one.id === state.lesson.id }, one.title)));
  const pace = el("select", { id: "pace", onchange: () => act("pace", { value: Number(pace.value) }) },
    state.paces.map((one) => el("option", { value: one, selected: one === state.pace }, PACES[one] ?? `${one} ms`)));
  const paper = (what, title) => el("a",
    { href: `${BASE}print/${state.lesson.id}/${what}${LANGUAGE}`, target: "_blank", rel: "noopener" }, title);
  return el("div", { class: "card more" }, el("h2", {}, say("More")),
    el("p", {}, say("Print"), ": ", paper("guide", say("guide")), ", ", paper("worksheet", say("worksheet")), ", ",
      paper("key", say("answer key"))),
    el("p", { class: "row" }, el("label", { for: "pace" }, say("Pictures are turned over")), pace),
    !over && downloads(),
    !over && el("p", { class: "row" }, select,
      button(say("Run this lesson"), () => act("lesson", { lesson: select.value }), "quiet", { id: "run" })),
    el("p", {}, over ? button(say("Reopen the room"), () => act("reopen"), "quiet", { id: "reopen" })
      : button(say("End the room"), () => act("end"), "quiet", { id: "end" })),
    el("p", { class: "row" }, button(say("Copy my link"), copyLink, "quiet", { id: "link" })),
    el("p", { class: "soft" },
      say("This browser remembers that you lead the room. For another one, the link is the key: show it to nobody.")));
}

const downloads = () => el("p", { class: "row" },
  button(say("Download the recap page"), recap, "quiet", { id: "recap" }),
  button(say("Download the class summary"), download, "quiet", { id: "download" }));

function copyLink() {
  const link = `${location.origin}${location.pathname}${LANGUAGE}#${secret}`;
  const ask = () => prompt(say("Your link"), link); // plain http has no clipboard
  if (!navigator.clipboard) return ask();
  return navigator.clipboard.writeText(link).then(() => announce(say("The link is copied.")), ask);
}

// What the class saw and answered, as one page for the class: counts only, opened without a network.
function recap() {
  return save(`${HERE}/recap.html${LANGUAGE}`, secret, `class-recap-${code}.html`)
    .catch(() => announce(say("The recap cannot be had now; try again."), "warn"));
}

function download() {
  return save(`${HERE}/summary.csv${LANGUAGE}`, secret, `class-summary-${code}.csv`)
    .catch(() => announce(say("The summary cannot be had now; try again."), "warn"));
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
