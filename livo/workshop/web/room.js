// A student's page. The server is the truth; answers wait in this browser until their receipt is here.
import { $, announce, ask, BASE, button, el, poll, randomWord, recall, remember, show } from "./dom.js";
import { follow, hear, LANGUAGE, say } from "./language.js";
import { countdown } from "./countdown.js";
import { Queue } from "./queue.js";
import { turnOver } from "./reveal.js";
import { renderStep } from "./stage.js";

const code = decodeURIComponent(location.pathname.split("/room/")[1] ?? "").toUpperCase().replace(/[\s-]/g, "");
const NAME = `room ${code}`;
const word = recall(NAME) ?? randomWord();
remember(NAME, word);
let etag = "";
let state = null;
let drawn = "";
let made = null;
let turn = () => {};
let offline = false;
let covered = false; // by this person, for themselves

const clock = countdown((left) => {
  const node = $("clock");
  const soon = left !== null && left <= 15;
  node.hidden = left === null;
  node.className = `clock ${soon ? "warn" : ""}`;
  node.textContent = left === null ? "" : left ? say("The answers close in {left} s", { left }) : say("Time is up");
  if (left === 10) navigator.vibrate?.(150);
});

const queue = new Queue(`answers ${code} ${word.slice(0, 8)}`,
  async (event) => fetch(`${BASE}api/rooms/${code}/answers`, {
  method: "POST", cache: "no-store", body: JSON.stringify(event),
  headers: { authorization: `Bearer ${word}`, "content-type": "application/json" },
}), (now) => {
  if (now.waiting.length && now.turns) network(say("Your answer waits in this browser until the network is back."));
  else if (!now.waiting.length) network("");
});
queue.run();

async function news() {
  const { status, payload, etag: mark } = await ask(`rooms/${encodeURIComponent(code)}${LANGUAGE}`, { word, etag });
  if (status === 304) return true;
  if (status === 404) { gone(payload.message); return false; }
  if (status !== 200) { network(say("The room cannot be reached; the page tries again. Nothing is lost.")); etag = "";
    return true; }
  if (!queue.waiting.length) network("");
  etag = mark;
  state = payload;
  follow(state.language);
  draw();
  return state.phase !== "ended";
}

// Says that the network is away, and takes it back; other messages stay.
function network(text) {
  if (text || offline) announce(text, "warn");
  offline = Boolean(text);
}

function gone(message) {
  show(el("div", { class: "card narrow" }, el("h1", {}, say("No such room")), el("p", {}, hear(message)),
    el("a", { class: "button main", href: BASE }, say("Type another code"))));
}

function draw() {
  $("title").textContent = state.lesson.title;
  document.title = `${state.lesson.title} · ${code}`;
  if (!$("cover")) $("tools").replaceChildren(
    button(say("Cover"), cover, "quiet small-text",
    { id: "cover", "aria-pressed": "false", title: say("Covers the pictures on this device only") }),
    el("span", { class: "code" }, code));
  if (!$("clock")) $("banner").after(el("p", { class: "clock", id: "clock", role: "timer", hidden: true }));
  clock.set(state.left);
  document.body.classList.toggle("covered", state.covered || covered);
  const playing = state.phase === "open" && state.step?.ask?.kind === "prompt"; // news would take what is being written
  const now = JSON.stringify([state.place, state.phase, state.hidden, state.lesson.id, playing || state.tally,
    state.step?.show.map((widget) => [widget.mine, widget.tally])]);
  if (now === drawn) return;
  const again = drawn !== "";
  drawn = now;
  made = null;
  if (state.phase === "ended") {
    document.body.classList.remove("covered");
    show(card(say("This room has ended"),
      say("Thank you. If something in the pictures stays with you, talk about it with somebody you trust.")),
      el("p", { class: "centre" }, el("a", { href: BASE }, say("All lessons"))));
  } else if (state.hidden) show(card(say("Look up"), say("The screens are paused for a moment.")));
  else if (!state.step) show(card(say("Room {code}", { code }),
    [say("“{title}” begins when the facilitator starts it.", { title: state.lesson.title }),
      say("It shows drawings of people, and some of them are stereotypes."),
      say("You can cover the pictures or leave at any time, without a reason.")].join(" ")));
  else drawStep();
  receipt("");
  if (again) { window.scrollTo(0, 0); $("main").querySelector("h1")?.focus(); }
}

function drawStep() {
  const closed = state.phase === "closed";
  const waiting = queue.waiting.find((event) => String(event.place) === String(state.place));
  const playing = state.step.ask?.kind === "prompt"; // a try sends itself
  const mine = waiting && !playing ? waiting.value : state.mine ?? null;
  const game = {
    attempt: (prompt) => ask(`rooms/${code}/tries`, { word, body: { prompt } }),
    tried: (prompt) => queue.put({ place: state.place, value: prompt }).answer.then(
      () => receipt(say("Counted on the board. Write another one.")),
      (refused) => announce(hear(refused.message), "warn")),
  };
  const send = button(mine === null ? say("Send") : say("Send again"), () => answer(send), "main", { disabled: true });
  made = renderStep(state.step, {
    number: state.place[1] + 1, of: state.of, closed, tally: state.tally, mine, game,
    changed: () => { send.disabled = made.ask.value() === null; },
  });
  const asks = state.step.ask && !closed;
  turnOver(made.node, state.pace);
  show(made.node, asks && !playing && el("div", { class: "actions sticky" }, send));
  if (asks && mine !== null && !waiting && !playing) receipt(
    say("Your answer is saved. You can change it until the question is closed."));
}

async function answer(send) {
  const place = state.place;
  announce("");
  send.disabled = true;
  receipt(say("Saving …"));
  try {
    const saved = await queue.put({ place, value: made.ask.value() }).answer;
    receipt(say("Saved {time}. You can change it until the question is closed.",
      { time: new Date(saved.at).toLocaleTimeString() }));
    send.textContent = say("Send again");
  } catch (refused) {
    receipt("");
    announce(hear(refused.message), "warn");
    send.disabled = false;
  }
  turn();
}

function card(title, text) {
  return el("div", { class: "card narrow waiting" }, el("h1", { tabindex: -1 }, title), el("p", {}, text));
}

function cover() {
  covered = !covered;
  $("cover").setAttribute("aria-pressed", covered);
  $("cover").textContent = covered ? say("Uncover") : say("Cover");
  document.body.classList.toggle("covered", state.covered || covered);
}

function receipt(text) { $("receipt").textContent = text; }

turn = poll(news, 1500);
