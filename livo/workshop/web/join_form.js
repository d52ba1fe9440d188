// The way into a room: its six letters.
import { ask, BASE, el } from "./dom.js";
import { hear, LANGUAGE, say } from "./language.js";

export function joinForm() {
  const problem = el("p", { class: "problem", role: "alert" });
  const input = el("input", { id: "code", autocomplete: "off", autocapitalize: "characters", spellcheck: "false",
    maxlength: 9, placeholder: say("six letters") });
  return el("form", { class: "card join", onsubmit: async (event) => {
    event.preventDefault();
    const code = input.value.toUpperCase().replace(/[\s-]/g, "");
    const { status, payload } = code ? await ask(`rooms/${encodeURIComponent(code)}`)
      : { status: 404, payload: { message: say("Type the six letters that the screen shows.") } };
    if (status === 200) location.href = `${BASE}room/${code}${LANGUAGE}`;
    else problem.textContent = payload ? hear(payload.message) : say("The server cannot be reached; try again.");
  } }, el("label", { for: "code" }, say("Join a room")),
    el("div", { class: "row" }, input, el("button", { type: "submit", class: "main" }, say("Join"))), problem);
}
