// The projector: what the class sees, in large type, with the code to join while it waits.
import { $, announce, ask, BASE, el, plural, poll, show } from "./dom.js";
import { renderStep } from "./stage.js";

const code = decodeURIComponent(location.pathname.split("/room/")[1].split("/")[0]).toUpperCase();
let etag = "";
let drawn = "";
document.body.classList.add("projector");

async function news() {
  const { status, payload, etag: mark } = await ask(`rooms/${encodeURIComponent(code)}`, { etag });
  if (status === 304) return true;
  if (status === 404) { show(el("h1", {}, payload.message)); return false; }
  if (status !== 200) { announce("The room cannot be reached; the page tries again.", "warn"); etag = ""; return true; }
  announce("");
  etag = mark;
  draw(payload);
  return payload.phase !== "ended";
}

function draw(state) {
  $("title").textContent = state.lesson.title;
  $("tools").replaceChildren(el("span", { class: "code" }, code), el("span", { class: "soft" }, counts(state)));
  document.body.classList.toggle("covered", state.covered);
  const now = JSON.stringify([state.place, state.phase, state.hidden, state.lesson.id, state.tally,
    state.step?.show.map((widget) => widget.tally)]);
  if (now === drawn) return;
  drawn = now;
  if (state.phase === "ended") show(el("div", { class: "card narrow" }, el("h1", {}, "Thank you")));
  else if (state.hidden) show(el("div", { class: "card narrow" }, el("h1", {}, "A pause"),
    el("p", {}, "Please look up from your screens.")));
  else if (!state.step) show(joining(state));
  else {
    show(renderStep(state.step, { number: state.place[1] + 1, of: state.of, closed: state.phase === "closed",
      tally: state.tally, asking: false }).node);
    window.scrollTo(0, 0);
  }
}

function counts(state) {
  if (state.phase === "open"
    && state.step?.ask) return `${state.answered} of ${Math.max(state.here, state.answered)} answered`;
  return `${plural(state.here, "device")} here`;
}

function joining(state) {
  return el("section", { class: "joining" },
    el("div", {}, el("h1", {}, state.lesson.title), el("p", { class: "lead" }, state.lesson.goal),
      el("p", {}, "Open this address, or scan the code:"),
        el("p", { class: "address" }, state.join.replace(/^https?:\/\//, "")),
        el("p", { class: "big-code" }, code.slice(0, 3), " ", code.slice(3))),
    el("img", { class: "qr", src: `${BASE}api/rooms/${code}/qr.svg`, alt: `QR code of ${state.join}` }));
}

poll(news, 1500);
