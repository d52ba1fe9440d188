// The list of lessons, and the two ways in: alone, or with a class.
import { joinForm } from "./join_form.js";
import { $, announce, ask, button, el, remember, show } from "./dom.js";
import { hear, LANGUAGE, minutes, say } from "./language.js";

async function start() {
  const { status, payload } = await ask(`lessons${LANGUAGE}`);
  if (status !== 200) {
    announce(say("The lessons cannot be reached; the page tries again."), "warn");
    setTimeout(start, 3000);
    return;
  }
  announce("");
  $("title").textContent = say("Workshop");
  show(
    el("h1", {}, say("Lessons about models and values")),
    el("p", { class: "lead" },
      say("Each lesson takes 10 to 15 minutes: you predict, you see, you explain."), " ",
      say("Do one alone, or open a room for a class. No accounts, and nobody's name.")),
    joinForm(), el("ol", { class: "lessons" }, payload.lessons.map(card)));
}

function card(lesson) {
  const paper = (what, title) => el("a", { href: `print/${lesson.id}/${what}${LANGUAGE}` }, title);
  return el("li", { class: "card lesson" },
    el("div", { class: "lesson-text" }, el("h2", {}, `${lesson.order} · ${lesson.title}`), el("p", {}, lesson.goal),
      lesson.languages.map((one) => el("p", { class: "soft" }, el("a", { href: `lesson/${lesson.id}?lang=${one}`,
        hreflang: one }, new Intl.DisplayNames([one], { type: "language" }).of(one)))),
      el("p", { class: "soft" }, `${minutes(lesson.minutes)} · ${say("print")}: `,
        paper("guide", say("Facilitator guide")), ", ", paper("worksheet", say("Worksheet")), ", ",
        paper("key", say("Answer key")))),
    el("div", { class: "actions" },
      el("a", { class: "button main", href: `lesson/${lesson.id}${LANGUAGE}` }, say("Do it alone"),
        el("span", { class: "hidden" }, `: ${lesson.title}`)),
      button(say("Open a room"), () => openDialog(lesson), "quiet",
        { "aria-label": `${say("Open a room")}: ${lesson.title}` })));
}

function openDialog(lesson) {
  const school = el("input", { type: "checkbox", id: "school", checked: true });
  const wrong = el("p", { class: "problem", role: "alert" });
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const language = el("select", { id: "language" }, el("option", { value: "" }, "English"),
    lesson.languages.map((one) => el("option", { value: one, selected: LANGUAGE === `?lang=${one}` }, names.of(one))));
  const dialog = el("dialog", { "aria-labelledby": "open-title", onclose: () => dialog.remove() },
    el("h2", { id: "open-title" }, say("A room for “{title}”", lesson)),
    el("p", {},
      say("You get a code for the class and a link for yourself. Keep that link: who has it leads the room.")),
    el("label", { class: "tick", for: "school" }, school,
      el("span", {}, say("School mode: nothing about nudity, blood or horror, not even as numbers"))),
    lesson.languages.length > 0 && el("p", { class: "row" },
      el("label", { for: "language" }, say("Language")), language),
    wrong,
    el("div", { class: "actions" }, button(say("Open the room"), async () => {
      const body = { lesson: lesson.id, school: school.checked, language: language.value };
      const { status, payload } = await ask("rooms", { body });
      if (status !== 200) {
        wrong.textContent = payload ? hear(payload.message) : say("The server cannot be reached; try again.");
        return;
      }
      remember(`host ${payload.code}`, payload.secret);
      location.href = `room/${payload.code}/host${language.value && `?lang=${language.value}`}#${payload.secret}`;
    }, "main"), button(say("Cancel"), () => dialog.close())));
  document.body.append(dialog);
  dialog.showModal();
}

start();
