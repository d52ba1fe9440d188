// The projector: one slide at a time, in large type; see slides.js.
import { $, announce, ask, el, poll, show } from "./dom.js";
import { devices, follow, hear, LANGUAGE, say } from "./language.js";
import { countdown } from "./countdown.js";
import { arrivals, fit, slide } from "./slides.js";
import { turnOver } from "./reveal.js";

const code = decodeURIComponent(location.pathname.split("/room/")[1].split("/")[0]).toUpperCase();
let etag = "";
let drawn = "";
let shown = null;
const clock = countdown((left) => {
  const node = document.querySelector(".clock");
  if (!node) return;
  node.hidden = left === null;
  node.textContent = left === null ? "" : left ? `${left} s` : say("Time is up");
  node.classList.toggle("warn", left !== null && left <= 10);
});

async function news() {
  const { status, payload, etag: mark } = await ask(`rooms/${encodeURIComponent(code)}${LANGUAGE}`, { etag });
  if (status === 304) return true;
  if (status === 404) { show(el("h1", {}, hear(payload.message))); return false; }
  if (status !== 200) {
    announce(say("The room cannot be reached; the page tries again. Nothing is lost."), "warn");
    etag = "";
    return true;
  }
  announce("");
  etag = mark;
  follow(payload.language);
  draw(payload);
  return payload.phase !== "ended";
}

// Draws a room's state; the same state twice changes nothing.
export function draw(state) {
  $("title").textContent = state.lesson.title;
  $("tools").replaceChildren(el("span", { class: "clock", hidden: true, role: "timer" }),
    state.simulated ? el("span", { class: "chip warn" },
      say("rehearsal: {n} simulated pupils", { n: state.simulated })) : "",
    el("span", { class: "counts" }, counts(state)), el("span", { class: "code" }, code));
  clock.set(state.left ?? null);
  document.body.classList.toggle("covered", state.covered);
  const now = JSON.stringify([state.place, state.phase, state.hidden, state.lesson.id, state.tally, state.pace,
    state.step?.show.map((widget) => widget.tally)]);
  if (now !== drawn) {
    drawn = now;
    shown = slide(state, code);
    show(shown);
    fit(shown);
    turnOver(shown, state.pace);
  }
  if (shown) arrivals(shown, state.here ?? 0);
}

function counts(state) {
  if (state.phase === "open"
    && state.step?.ask) return say("{n} of {of} answered",
    { n: state.answered, of: Math.max(state.here, state.answered) });
  return devices(state.here ?? 0);
}

addEventListener("resize", () => shown && fit(shown));
poll(news, 1500);
