// The list of lessons, and the two ways in: alone, or with a class.
import { joinForm } from "./join_form.js";
import { $, announce, ask, button, el, plural, remember, show } from "./dom.js";

async function start() {
  const { status, payload } = await ask("lessons");
  if (status !== 200) {
    announce("The lessons cannot be reached; the page tries again.", "warn");
    setTimeout(start, 3000);
    return;
  }
  announce("");
  $("title").textContent = "Workshop";
  show(
    el("h1", {}, "Lessons about models and values"),
    el("p", { class: "lead" },
      "Each lesson takes 10 to 15 minutes: you predict, you see, you explain. " +
        "Do one alone, or open a room for a class. No accounts, and nobody's name."),
    joinForm(), el("ol", { class: "lessons" }, payload.lessons.map(card)));
}

function card(lesson) {
  const paper = (what, title) => el("a", { href: `print/${lesson.id}/${what}` }, title);
  return el("li", { class: "card lesson" },
    el("div", { class: "lesson-text" }, el("h2", {}, `${lesson.order} · ${lesson.title}`), el("p", {}, lesson.goal),
      lesson.languages.map((one) => el("p", { class: "soft" }, el("a", { href: `lesson/${lesson.id}?lang=${one}`,
        hreflang: one }, new Intl.DisplayNames([one], { type: "language" }).of(one)))),
      el("p", { class: "soft" }, `${plural(lesson.minutes, "minute")} · print: `, paper("guide", "facilitator guide"),
        ", ", paper("worksheet", "worksheet"), ", ", paper("key", "answer key"))),
    el("div", { class: "actions" },
      el("a", { class: "button main", href: `lesson/${lesson.id}` }, "Do it alone",
        el("span", { class: "hidden" }, `: ${lesson.title}`)),
      button("Open a room", () => openDialog(lesson), "quiet", { "aria-label": `Open a room: ${lesson.title}` })));
}

function openDialog(lesson) {
  const school = el("input", { type: "checkbox", id: "school", checked: true });
  const wrong = el("p", { class: "problem", role: "alert" });
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const language = el("select", { id: "language" }, el("option", { value: "" }, "English"),
    lesson.languages.map((one) => el("option", { value: `?lang=${one}` }, names.of(one))));
  const dialog = el("dialog", { "aria-labelledby": "open-title", onclose: () => dialog.remove() },
    el("h2", { id: "open-title" }, `A room for “${lesson.title}”`),
    el("p", {}, "You get a code for the class and a link for yourself. Keep that link: who has it leads the room."),
    el("label", { class: "tick", for: "school" }, school,
      el("span", {}, "School mode: nothing about nudity, blood or horror, not even as numbers")),
    lesson.languages.length > 0 && el("p", { class: "row" }, el("label", { for: "language" }, "Language"), language),
    wrong,
    el("div", { class: "actions" }, button("Open the room", async () => {
      const { status, payload } = await ask("rooms", { body: { lesson: lesson.id, school: school.checked } });
      if (status !== 200) { wrong.textContent = payload?.message ?? "The server cannot be reached; try again."; return;
        }
      remember(`host ${payload.code}`, payload.secret);
      location.href = `room/${payload.code}/host${language.value}#${payload.secret}`;
    }, "main"), button("Cancel", () => dialog.close())));
  document.body.append(dialog);
  dialog.showModal();
}

start();
