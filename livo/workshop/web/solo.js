// A lesson for one person, without a room: the whole lesson is here, and what is to be found out is kept back by this
// page.
import { $, announce, ask, BASE, button, el, prose, randomWord, recall, remember, show } from "./dom.js";
import { LANGUAGE, minutes, say } from "./language.js";
import { renderStep } from "./stage.js";

const id = decodeURIComponent(location.pathname.split("/lesson/")[1] ?? "");
const NAME = `solo ${id}`;
const WORD = randomWord(); // tells this visitor's prompts from others' while they wait
let lesson = null;
let state = { at: -1, answers: {} };

async function start() {
  const { status, payload } = await ask(`lessons/${encodeURIComponent(id)}${LANGUAGE}`);
  if (status === 404) return show(el("div", { class: "card narrow" }, el("h1", {}, say("There is no such lesson")),
    el("a", { href: BASE }, say("All lessons"))));
  if (status !== 200) {
    announce(say("The lesson cannot be reached; the page tries again."), "warn");
    return void setTimeout(start, 3000);
  }
  announce("");
  lesson = payload;
  document.title = `${lesson.title} · LiVO workshop`;
  $("title").textContent = lesson.title;
  $("tools").replaceChildren(el("a", { href: BASE }, say("All lessons")));
  const kept = recall(NAME);
  if (kept && Number.isInteger(kept.at) && kept.at < lesson.steps.length) state = kept;
  draw();
}

function go(at) {
  state.at = at;
  remember(NAME, state);
  draw();
  window.scrollTo(0, 0);
  $("main").querySelector("h1").focus();
}

function draw() {
  if (state.at < 0) return intro();
  const step = lesson.steps[state.at];
  const mine = step.ask ? state.answers[step.ask.id] ?? null : null;
  const closed = mine !== null;
  const lock = button(say("Lock my answer"), () => {
    state.answers[step.ask.id] = made.ask.value();
    go(state.at);
  }, "main", { disabled: true });
  const made = renderStep(step, {
    number: state.at + 1, of: lesson.steps.length, own: (ask) => state.answers[ask] ?? null, mine, closed,
    game: { attempt: (prompt) => ask("tries", { word: WORD, body: { prompt } }) },
    changed: () => { lock.disabled = made.ask.value() === null; },
  });
  const last = state.at === lesson.steps.length - 1;
  const onward = last ? el("a", { class: "button main", href: BASE }, say("Finish: all lessons"))
    : button(say("Next"), () => go(state.at + 1), "main");
  show(made.node, el("nav", { class: "actions sticky", "aria-label": "Steps" },
    step.ask && !closed ? lock : onward,
    button(say("Back"), () => go(state.at - 1)),
    closed && button(say("Answer again"), () => { delete state.answers[step.ask.id]; go(state.at); })));
}

function intro() {
  show(el("article", { class: "step" },
    el("p", { class: "eyebrow" }, [
      say("Lesson {n}", { n: lesson.order }), minutes(lesson.minutes), say("{n} steps", { n: lesson.steps.length }),
    ].join(" · ")),
    el("h1", { tabindex: -1 }, lesson.title), el("p", { class: "lead" }, lesson.goal), prose(lesson.intro),
    el("h2", {}, say("Words")), el("dl", { class: "words" },
      Object.entries(lesson.words).map(([term, meaning]) => [el("dt", {}, term), el("dd", {}, meaning)])),
    el("p", { class: "soft" }, say("Your answers stay in this browser."))),
  el("nav", { class: "actions sticky", "aria-label": "Steps" }, button(say("Start"), () => go(0), "main")));
}

start();
