// The rater's page. The server is the truth: what is shown here can be built again from it at any moment.
import { $, announce, BASE, button, el, randomWord, recall, remember, show } from "./dom.js";
import { Queue } from "./queue.js";

const BOUNCE = 350; // milliseconds
const AHEAD = 3; // images fetched before they are needed
const LETTERS = { a: "left", b: "right", t: "tie", n: "neither" };
let words = {};
let code = "";
let session = null;
let queue = null;
let others = null;
let state = null;
let screen = () => {};
const images = new Map();

// --- words ------------------------------------------------------------------------------------------------------

function t(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

async function speak(language) {
  words = await (await fetch(`${BASE}languages/${language}.json`)).json();
  document.documentElement.lang = language;
  document.title = t("page.title");
  $("help").textContent = t("help.button");
  $("stop").textContent = t("stop.button");
  $("language").setAttribute("aria-label", t("language.label"));
}

function choices(languages) {
  const select = $("language");
  select.replaceChildren(...languages.map((id) => el("option", { value: id }, NAMES[id])));
  select.value = document.documentElement.lang;
  select.onchange = async () => { keep("language", select.value); await speak(select.value); screen(); };
}
const NAMES = { en: "English", fr: "Français", es: "Español", zh: "中文" };

// A tab is a rater's: what it remembers is not another tab's.
const kept = (name) => recall(name, null, "sessionStorage");
const keep = (name, value) => remember(name, value, "sessionStorage");

function ask(path, event = null) {
  const headers = { authorization: `Bearer ${code}`, ...(event && { "content-type": "application/json" }) };
  const method = event ? "POST" : "GET";
  return fetch(`${BASE}api/${path}`, { method, headers, cache: "no-store", body: event && JSON.stringify(event) });
}

// --- coming in --------------------------------------------------------------------------------------------------

async function start() {
  const asked = new URLSearchParams(location.search).get("lang");
  const wanted = [asked, kept("language"), ...navigator.languages.map((l) => l.split("-")[0])];
  await speak(wanted.find((id) => NAMES[id]) ?? "en");
  choices(Object.keys(NAMES));
  code = location.hash.slice(1) || kept("code") || "";
  addEventListener("hashchange", () => location.reload());
  document.addEventListener("keydown", onKey);
  $("help").onclick = showHelp;
  $("stop").onclick = confirmStop;
  if (code) await enter();
  else await arrive();
}

// One link for all: the server says who this is. Studies with a link for each rater ask for the code.
async function arrive() {
  const parameters = Object.fromEntries(new URLSearchParams(location.search));
  const visitor = recall("visitor") ?? randomWord();
  remember("visitor", visitor);
  let reply;
  try {
    reply = await ask("arrive", { parameters, visitor });
  } catch {
    announce(t("offline.start"), "warn");
    setTimeout(arrive, 3000);
    return;
  }
  const payload = await reply.json();
  if (reply.status === 404 || reply.status === 405) return askCode("");
  if (!reply.ok) {
    showPlain("arrive.title", reply.status === 409 ? "arrive.full" : "arrive.later");
    if (reply.status === 423 || reply.status === 429) setTimeout(arrive, 5000);
    return;
  }
  announce("");
  code = payload.code;
  await enter();
}

function askCode(problem) {
  screen = () => askCode(problem);
  const input = el("input", { id: "code", autocomplete: "off", autocapitalize: "characters", spellcheck: "false",
    maxlength: 24 });
  const form = el("form", { class: "card narrow", onsubmit: async (event) => {
    event.preventDefault();
    code = input.value.trim();
    await enter();
  } },
    el("h1", {}, t("code.title")), el("p", {}, t("code.text")),
    problem && el("p", { class: "problem", role: "alert" }, problem),
    el("label", { for: "code" }, t("code.label")), input,
    el("button", { type: "submit", class: "main" }, t("code.go")));
  show(form);
  input.focus();
}

async function enter() {
  let reply;
  try {
    reply = await ask("session");
  } catch {
    announce(t("offline.start"), "warn");
    setTimeout(enter, 3000);
    return;
  }
  announce("");
  if (reply.status === 401) return askCode(t("code.unknown"));
  if (!reply.ok) { announce(t("offline.start"), "warn"); setTimeout(enter, 3000); return; }
  session = await reply.json();
  keep("code", code);
  history.replaceState(null, "", location.pathname + location.search);
  const { study } = session;
  $("title").textContent = study.title;
  const spoken = kept("language") ?? (session.language || null);
  if (spoken && study.languages.includes(spoken)) await speak(spoken);
  else if (!study.languages.includes(document.documentElement.lang)) await speak(study.languages[0]);
  choices(study.languages);
  if (!queue) {
    const mark = await digest(`${study.version} ${code}`);
    queue = new Queue(`study ${mark}`, (event) => ask("events", event), onQueue);
    others = new BroadcastChannel(`study ${mark}`); // other tabs of this rater
    others.onmessage = follow;
    const left = [...queue.waiting];
    if (left.length) { queue.run(); await emptied(); return enter(); }
  }
  if (session.withdrawn) return showPlain("withdrawn.title", "withdrawn.text");
  if (session.paused) { announce(t("paused.text"), "warn"); setTimeout(() => session.paused && enter(), 5000); }
  if (!session.consented) return showConsent();
  build();
  if (session.study.demographics.length && !session.told && !session.stopped) return showAbout();
  if (hasInstructions() && !state.read && !session.stopped) return showInstructions();
  if (session.stopped || session.ending || !current()) return showEnd();
  showRating();
}

// Another tab of this rater stored something: this one goes on from there, and says so.
async function follow() {
  if (!session?.consented || queue.waiting.length) return;
  await enter();
  announce(t("tabs.other"));
}

async function emptied() {
  while (queue.waiting.length) await new Promise((resolve) => setTimeout(resolve, 100));
}

async function digest(text) { // only to tell two raters of one browser apart
  let a = 0x811c9dc5;
  for (const sign of text) a = Math.imul(a ^ sign.codePointAt(0), 0x01000193) >>> 0;
  let b = 5381;
  for (const sign of text) b = (Math.imul(b, 33) + sign.codePointAt(0)) >>> 0;
  return a.toString(16) + b.toString(16);
}

function onQueue(queue) {
  const waiting = queue.waiting.length;
  if (queue.paused) announce(t("paused.text"), "warn");
  else if (waiting && queue.turns) announce(t("offline.waiting", { n: waiting }), "warn");
  else if (!waiting || !queue.turns) announce("");
}

// --- consent ----------------------------------------------------------------------------------------------------

// What the link says of who came, as far as the study stores it.
function said() {
  const given = new URLSearchParams(location.search);
  const known = session.study.parameters.filter((name) => given.get(name));
  return known.length ? { parameters: Object.fromEntries(known.map((name) => [name, given.get(name)])) } : {};
}

function showConsent() {
  screen = showConsent;
  const { study, content } = session;
  const adult = el("input", { type: "checkbox", id: "adult" });
  const agree = el("input", { type: "checkbox", id: "agree" });
  const problem = el("p", { class: "problem", role: "alert", hidden: true }, t("consent.missing"));
  const boxes = content.map(({ category }) =>
    el("input", { type: "checkbox", value: category, id: `out-${category}` }));
  const kinds = content.map(({ category, share }, i) => el("li", {},
    el("span", {}, t("content.row", { kind: kind(category), n: Math.round(100 * share) })),
    el("label", { class: "tick" }, boxes[i], el("span", {}, t("content.out", { kind: kind(category) })))));
  const lang = document.documentElement.lang;
  const support = study.support[lang] ?? Object.values(study.support)[0];
  const form = el("form", { class: "card text", onsubmit: async (event) => {
    event.preventDefault();
    const missing = [adult, agree].find((box) => !box.checked);
    if (missing) { problem.hidden = false; missing.focus(); return; }
    try {
      const body = { adult: true, version: study.version, language: lang, ...said() };
      await queue.put({ kind: "consent", body }).answer;
      const opted = boxes.filter((box) => box.checked).map((box) => box.value);
      if (opted.length) await queue.put({ kind: "options", body: { opted_out: opted } }).answer;
    } catch (refusal) { announceRefusal(refusal); return; }
    await enter();
  } },
    el("h1", {}, t("consent.title")),
    study.description && el("p", { class: "own" }, study.description),
    el("p", {}, t(study.synthetic ? "consent.what" : "consent.what.any")),
    el("h2", {}, t("consent.rights.title")),
    el("ul", {}, ["stop", "skip", "names", "store"].map((id) => el("li", {}, t(`consent.rights.${id}`)))),
    said().parameters && el("p", {}, t("consent.link", { names: Object.keys(said().parameters).join(", ") })),
    study.credit && el("p", {}, el("b", {}, t("consent.credit")), " ", study.credit),
    study.ethics && el("p", {}, el("b", {}, t("consent.ethics")), " ", study.ethics),
    kinds.length ? [el("h2", {}, t("content.title")), el("p", {}, t("content.text")),
      el("ul", { class: "kinds" }, kinds), el("p", { class: "soft" }, t("content.blur"))] : null,
    support && el("p", { class: "soft" }, el("b", {}, t("consent.support")), " ", support),
    study.contact && el("p", { class: "soft" }, el("b", {}, t("consent.contact")), " ", study.contact),
    el("label", { class: "tick" }, adult, el("span", {}, t("consent.adult"))),
    el("label", { class: "tick" }, agree, el("span", {}, t("consent.agree"))),
    problem,
    el("button", { type: "submit", class: "main" }, t("consent.go")));
  show(form);
}

// --- about the rater, and what to do --------------------------------------------------------------------------------

function showAbout() {
  screen = showAbout;
  const asked = session.study.demographics
    .map((question) => ({ question, ...widget(question, `about-${question.id}`) }));
  const form = el("form", { class: "card text", onsubmit: async (event) => {
    event.preventDefault();
    const said = asked.map(({ question, read }) => [question.id, read()])
      .filter(([, value]) => value !== undefined && value !== "");
    try {
      await queue.put({ kind: "demographics", body: { values: Object.fromEntries(said) } }).answer;
    } catch (refusal) { announceRefusal(refusal); return; }
    await enter();
  } },
    el("h1", {}, t("about.title")), el("p", {}, t("about.text")),
    asked.map(({ question, node }) => el("fieldset", {}, el("legend", {}, labelOf(question)),
      hintOf(question) && el("p", { class: "soft" }, hintOf(question)), node)),
    el("button", { type: "submit", class: "main" }, t("code.go")));
  show(form);
  $("main").focus();
}

const hasInstructions = () => Object.keys(session.study.instructions).length > 0 || session.examples.length > 0;

function showInstructions() {
  screen = showInstructions;
  state.at = null;
  const examples = session.examples.map((example) => {
    const trial = { ...example, sides: 1 };
    const picture = el("img", { alt: t("image.alt", { name: "" }) });
    const frame = el("div", { class: "frame" }, picture);
    place(trial, 0, false, picture, frame, () => showInstructions());
    return el("li", { class: "example" }, frame, el("div", {},
      el("p", {}, el("b", {}, el("bdi", {}, example.prompt))),
      example.expected.map(({ question, values }) => el("p", {}, `${labelOf(question)} `,
        el("b", {}, rightText(question, values)))),
      example.explanation && el("p", { class: "soft" }, example.explanation)));
  });
  const go = button(t("instructions.go"), () => { state.read = true; keep(`read ${code}`, "1");
    current() ? showRating() : showEnd(); }, "main");
  show(el("div", { class: "card text" }, el("h1", {}, t("instructions.title")),
    inLanguage(session.study.instructions).split("\n").filter((line) => line.trim()).map((line) => el("p", {}, line)),
    examples.length ? [el("h2", {}, t("instructions.examples")), el("ul", { class: "examples" }, examples)] : null,
    go));
  $("main").focus();
}

function inLanguage(texts) {
  return texts?.[document.documentElement.lang] ?? Object.values(texts ?? {})[0] ?? "";
}

const labelOf = (question) => inLanguage(session.study.words[question.id]?.label) || t(`question.${question.id}`);
const hintOf = (question) => session.study.words[question.id] ? inLanguage(session.study.words[question.id].hint)
  : words[`question.${question.id}.hint`];

function kind(category) {
  return words[`kind.${category}`] ?? category;
}

// --- where we are -----------------------------------------------------------------------------------------------

function build() {
  state = {
    answers: new Map(session.answers.map(([trial, question, value]) => [`${trial} ${question}`, value])),
    settled: new Set(session.settled.map((pair) => pair.join(" "))),
    skipped: new Set(session.skipped),
    revealed: new Set(session.revealed),
    acts: session.acts.map(([key, trial, question]) => ({ key, trial, question })),
    hidden: new Set(session.opted_out),
    since: Date.now(),
    rested: 0,
    times: [],
    feedback: null,
    shown: new Set(),
    grey: false,
    read: session.answers.length > 0 || kept(`read ${code}`) === "1",
  };
  state.rested = done();
}

function settled(trial, question) {
  const key = `${trial.trial} ${question.id}`;
  return trial.training ? state.settled.has(key) : state.answers.has(key);
}

function finished(trial) {
  return state.skipped.has(trial.trial) || state.hidden.has(trial.category)
    || trial.questions.every((q) => settled(trial, q) || !called(trial, q));
}

// Whether earlier answers call for a question; practice asks whatever it explains.
function called(trial, question) {
  if (!question.when || trial.training) return true;
  const given = [state.answers.get(`${trial.trial} ${question.when.question}`)].flat();
  return given.some((value) => question.when.is.includes(value));
}

function current() {
  const trial = session.trials.find((each) => !finished(each));
  return trial && { trial, question: trial.questions.find((q) => !settled(trial, q) && called(trial, q)) };
}

const counted = () => session.trials
  .filter((trial) => !trial.training
  && !(state.hidden.has(trial.category) && !trial.questions.some((q) => settled(trial, q))));
const done = () => counted().filter(finished).length;

// --- one image at a time ----------------------------------------------------------------------------------------

function showRating() {
  screen = showRating;
  $("help").hidden = $("stop").hidden = false;
  const at = current();
  if (!at && !state.feedback) return showEnd();
  if (!state.feedback && dueBreak()) return showBreak();
  const { trial, question } = state.feedback ?? at;
  state.at = { trial, question };
  state.opened = false;
  const all = counted();
  const heading = trial.training ? t("training.title") : trial.sides === 2 ? t("pair.title") : t("rate.title");
  const left = all.length - done();
  const minutes = Math.max(1, Math.round((left * (median(state.times) || 9000) * trial.questions.length) / 60000));
  const head = el("div", { class: "progress" },
    el("h1", {}, heading),
    el("span", {}, trial.training ? t("training.note")
      : t("progress.text", { n: Math.min(done() + 1, all.length), of: all.length, minutes })),
    el("progress", { max: all.length || 1, value: done(), "aria-label": t("progress.label") }));
  show(head, el("div", { class: `trial${trial.sides === 2 ? " pairs" : ""}` }, stage(trial), panel(trial, question)));
  $("main").querySelector(".feedback button.main")?.focus({ preventScroll: true });
  prefetch();
}

function median(numbers) {
  return numbers.length ? [...numbers].sort((a, b) => a - b)[numbers.length >> 1] : 0;
}

function stage(trial) {
  const covered = trial.category && !state.shown.has(trial.trial);
  const waits = [];
  const frames = Array.from({ length: trial.sides }, (_, side) => {
    const name = trial.sides === 2 ? t(side ? "pair.right" : "pair.left") : "";
    const picture = el("img", { alt: covered ? t("image.covered", { name }) : t("image.alt", { name }),
      class: state.grey ? "grey" : "" });
    const frame = el("div", { class: `frame${covered ? " covered" : ""}` }, picture,
      !covered && button("+", () => enlarge(picture, name), "enlarge",
        { "aria-label": t("image.enlarge", { name }), title: t("image.enlarge", { name }), "aria-keyshortcuts": "z" }));
    waits.push(place(trial, side, Boolean(covered), picture, frame));
    return el("figure", {}, frame, name && el("figcaption", {}, name));
  });
  Promise.all(waits).then((there) => { if (there.every(Boolean)) opened(trial); });
  const tools = trial.category && el("div", { class: "image-tools" },
    !unseen(trial, state.at.question) && button(t(covered ? "image.show" : "image.cover"), toggleCover, "quiet",
      { "aria-keyshortcuts": "r", id: "reveal" }),
    button(t("image.grey"), toggleGrey, "quiet", { "aria-keyshortcuts": "g", "aria-pressed": String(state.grey) }),
    button(t("image.hide", { kind: kind(trial.category) }), () => hideKind(trial.category), "quiet"));
  return el("section", { class: "stage", "aria-label": t("image.region") },
    trial.category && covered && el("p", { class: "soft" }, t("image.why", { kind: kind(trial.category) })),
    el("div", { class: "pictures" }, frames), tools);
}

// Shows a picture once it has decoded; where it cannot be had, offers another try in its place.
async function place(trial, side, covered, picture, frame, again = () => restage(trial)) {
  try {
    picture.src = await load(trial, side, covered);
    await picture.decode();
    frame.classList.add("there");
    return true;
  } catch {
    images.delete(imageName(trial, side, covered));
    frame.replaceChildren(el("div", { class: "failed", role: "alert" },
      el("p", {}, t("image.failed", { name: "" })), button(t("image.retry"), again, "main")));
    addEventListener("online", () => frame.isConnected && again(), { once: true });
    return false;
  }
}

function enlarge(picture, name) {
  const box = dialog(el("img", { src: picture.src, alt: t("image.alt", { name }), class: picture.className }),
    el("div", { class: "actions" }, button([t("help.close"), el("kbd", {}, "Esc")], () => box.close(), "main")));
  box.classList.add("wide");
  box.setAttribute("aria-label", t("image.enlarge", { name }));
}

// What was not on the screen is not rated, and the clock begins with it.
function opened(trial) {
  if (state.at?.trial !== trial || state.opened || state.feedback) return;
  state.opened = true;
  state.asked = performance.now();
  const form = $("main").querySelector(".panel");
  form.querySelector("fieldset").disabled = false;
  for (const main of form.querySelectorAll("button.main")) main.disabled = false;
  if (document.activeElement === document.body || document.activeElement === $("main"))
    form.querySelector("input, button.main")?.focus({ preventScroll: true });
}

const unseen = (trial, question) => question.look && trial.category && !state.revealed.has(trial.trial);

function panel(trial, question) {
  const feedback = state.feedback?.verdict;
  const before = trial.questions.slice(0, trial.questions.indexOf(question)).length;
  const steps = trial.questions.length > 1 ? t("question.step", { n: before + 1, of: trial.questions.length }) : "";
  state.widget = widget(question);
  const form = el("form", { class: "panel", onsubmit: (event) => { event.preventDefault(); save(); } },
    el("div", { class: "prompt" }, el("span", {}, t("prompt.label")), el("p", {}, el("bdi", {}, trial.prompt))),
    el("fieldset", { disabled: true },
      el("legend", {}, steps && el("span", { class: "step" }, steps), labelOf(question)),
      question.principle && el("p", { class: "principle" }, el("span", {}, t("principle.label")),
        el("bdi", {}, question.principle)),
      hintOf(question) && el("p", { class: "soft" }, hintOf(question)),
      unseen(trial, question) ? el("p", { class: "look" }, t("look.text")) : state.widget.node));
  if (feedback) form.append(feedbackBox(question, feedback));
  else {
    form.append(
      el("p", { class: "why", role: "status", id: "why" }),
      el("div", { class: "actions" },
        unseen(trial, question)
          ? [button([t("image.show"), el("kbd", {}, "R")], toggleCover, "main",
            { "aria-keyshortcuts": "r", id: "reveal", disabled: true }),
            button(t("look.no"), () => again() || keepAnswer("not_looked"), "quiet", { id: "unseen" })]
          : el("button", { type: "submit", class: "main", disabled: true }, t("rate.save"), el("kbd", {}, "Enter")),
        button([t("rate.skip"), el("kbd", {}, "S")], skip, "quiet", { "aria-keyshortcuts": "s" }),
        button([t("rate.undo"), el("kbd", {}, "U")], undo, "quiet",
          { "aria-keyshortcuts": "u", disabled: !state.acts.length })));
  }
  return form;
}

// How a question is answered: what is shown, and what was chosen, undefined where nothing was.
function widget(question, name = "answer") {
  if (question.kind === "slider") {
    const out = el("output", {}, "–");
    const input = el("input", { type: "range", min: 0, max: 100, step: 1, value: 50, class: "untouched",
      "aria-label": labelOf(question), oninput: () => touched(), onpointerup: () => touched(), onkeydown: (event) => {
        if (event.key === " ") touched(); } });
    const touched = () => { input.classList.remove("untouched"); out.textContent = input.value; clearWhy(); };
    const ends = [0, 100].map((value) => el("span", {}, optionText(question, value)));
    return { node: el("div", { class: "slider" }, input, out, el("div", { class: "ends" }, ends)),
      read: () => input.classList.contains("untouched") ? undefined : Number(input.value) };
  }
  if (question.kind === "text") {
    const input = el("textarea", { rows: 3, maxlength: question.longest, "aria-label": labelOf(question) });
    return { node: input, read: () => input.value.trim() };
  }
  if (question.kind === "count") {
    const inputs = question.values.map((value) => [value, el("input", { type: "number", min: 0, max: 99, step: 1,
      inputmode: "numeric", oninput: clearWhy })]);
    const node = el("div", { class: "counts" }, inputs.map(([value, input]) =>
      el("label", {}, el("span", {}, optionText(question, value)), input)));
    const filled = () => inputs.every(([, input]) => input.value !== "" && input.validity.valid);
    return { node, read: () => filled() ? Object.fromEntries(inputs.map(([v, input]) => [v, Number(input.value)]))
      : undefined };
  }
  if (question.kind === "choices") {
    const boxes = [...question.values, null].map((value) => [value, el("input", { type: "checkbox",
      onchange: (event) => {
        clearWhy();
        for (const [other, box] of boxes) if ((other === null) !== (value === null) && event.target.checked)
          box.checked = false;
      } })]);
    const node = el("div", { class: "options choices" }, boxes.map(([value, box]) => el("label", { class: "option" },
      box, el("span", {}, value === null ? t("choices.none") : optionText(question, value)))));
    return { node, read: () => boxes.some(([, box]) => box.checked)
      ? boxes.filter(([value, box]) => value !== null && box.checked).map(([value]) => value) : undefined };
  }
  let values = question.values.map((value, i) => ({ value, i }));
  if (question.kind === "scale" && session.reversed) values = values.reverse();
  const node = el("div", { class: `options ${question.kind}` },
    values.map(({ value, i }) => option(question, value, i, name)));
  const read = () => question.values[node.querySelector("input:checked")?.value];
  return { node, read };
}

function clearWhy() {
  if ($("why")) $("why").textContent = "";
}

function option(question, value, i, name) {
  const key = question.kind === "pair" ? Object.keys(LETTERS)[i].toUpperCase() : String(i + 1);
  const id = `${name}-${i}`;
  const input = el("input", { type: "radio", name, value: String(i), id,
    onchange: () => name === "answer" && pick(i) });
  return el("label", { class: "option", for: id }, input, el("kbd", {}, key),
    el("span", {}, optionText(question, value)));
}

function rightText(question, values) {
  return question.kind === "slider" ? [...new Set(values)].sort((a, b) => a - b).join(" – ")
    : values.map((value) => optionText(question, value)).join(" / ");
}

function optionText(question, value) {
  const own = session.study.words[question.id];
  if (own) return inLanguage(own.options[value]) || words[`option.${value}`] || String(value);
  const word = question.kind === "scale" ? question.values.indexOf(value) + 1 : value;
  return words[`option.${question.id}.${word}`] ?? words[`option.${word}`] ?? String(value);
}

function feedbackBox(question, verdict) {
  const [how, what] = verdict.explanation.split(":");
  const text = words[`training.${how}`] ? t(`training.${how}`, { what }) : verdict.explanation;
  const right = rightText(question, verdict.expected);
  return el("div", { class: `feedback ${verdict.right ? "right" : "wrong"}` },
    el("p", { role: "alert" }, el("b", {}, t(verdict.right ? "training.right" : "training.wrong")), " ", text),
    !verdict.right && verdict.settled && el("p", {}, t("training.expected", { right })),
    button([t(verdict.right || verdict.settled ? "training.on" : "training.again"), el("kbd", {}, "Enter")],
      leaveFeedback, "main"));
}

function leaveFeedback() {
  state.feedback = null;
  showRating();
}

function pick(i) {
  const inputs = $("main").querySelectorAll("input[name=answer]");
  const input = [...inputs].find((each) => each.value === String(i));
  if (!input || !state.opened) return;
  input.checked = true;
  input.focus({ preventScroll: true });
  $("why").textContent = "";
}

// --- what a rater does ------------------------------------------------------------------------------------------

function save() {
  if (state.feedback) return leaveFeedback();
  const { trial, question } = state.at;
  if (!state.opened || unseen(trial, question)) return;
  const value = state.widget.read();
  if (value === undefined) {
    $("why").textContent = t(question.kind === "count" ? "count.fill" : "rate.choose");
    $("main").querySelector(".panel input")?.focus();
    return;
  }
  keepAnswer(value);
}

function keepAnswer(value) {
  const { trial, question } = state.at;
  if (!state.opened) return;
  const ms = Math.round(performance.now() - state.asked);
  const body = { value, ms, shown: true, ...(state.grey ? { grey: true } : {}) };
  const { key, answer } = queue.put({ kind: "answer", trial: trial.trial, question: question.id, body });
  if (trial.training) {
    $("main").querySelector("button.main").disabled = true;
    answer.then((receipt) => {
      if (receipt.feedback.settled) state.settled.add(`${trial.trial} ${question.id}`);
      state.feedback = { trial, question, verdict: receipt.feedback };
      showRating();
    }, refused);
    return;
  }
  state.times.push(ms);
  state.answers.set(`${trial.trial} ${question.id}`, value);
  state.acts.push({ key, trial: trial.trial, question: question.id });
  answer.then(confirmed, refused);
  if (finished(trial)) leave(trial);
  showRating();
}

// A double click, or a key that bounces, is one act: the second would hit what came after.
function again() {
  const now = performance.now();
  const soon = now - (state.acted ?? -Infinity) < BOUNCE;
  if (!soon) state.acted = now;
  return soon;
}

function skip() {
  if (state.feedback || again()) return;
  const { trial } = state.at;
  const { key, answer } = queue.put({ kind: "skip", trial: trial.trial });
  state.skipped.add(trial.trial);
  if (!trial.training) state.acts.push({ key, trial: trial.trial, question: "" });
  answer.then(confirmed, refused);
  leave(trial);
  showRating();
}

function undo() {
  if (state.feedback || !state.acts.length || again()) return;
  const act = state.acts.pop();
  if (act.question) state.answers.delete(`${act.trial} ${act.question}`);
  else state.skipped.delete(act.trial);
  session.ending = null;
  queue.put({ kind: "undo", body: { of: act.key } }).answer.then(confirmed, refused);
  showRating();
  $("receipt").textContent = t("receipt.undone");
}

function confirmed(receipt) {
  others.postMessage(receipt.key);
  const time = new Date(receipt.at).toLocaleTimeString(document.documentElement.lang);
  $("receipt").textContent = t("receipt.text", { time, n: done(), of: counted().length });
}

async function refused(refusal) {
  await enter(); // which clears what was announced
  announceRefusal(refusal);
}

// Why something was not stored: in the rater's language where they may meet it, else in the server's words.
function announceRefusal(refusal) {
  announce(words[`refused.${refusal.code}`] ?? t("refused.text", { message: refusal.message }), "warn");
}

function leave(trial) { // the next image is covered again
  state.shown.delete(trial.trial);
  for (const name of [...images.keys()]) {
    if (!name.startsWith(trial.trial)) continue;
    images.get(name).then((url) => url && URL.revokeObjectURL(url));
    images.delete(name);
  }
}

async function toggleCover() {
  const { trial } = state.at;
  if (!trial.category) return;
  if (state.shown.has(trial.trial)) state.shown.delete(trial.trial);
  else {
    if (!state.revealed.has(trial.trial)) {
      try { await queue.put({ kind: "reveal", trial: trial.trial }).answer; } catch (refusal) { return refused(refusal);
        }
      state.revealed.add(trial.trial);
    }
    state.shown.add(trial.trial);
    if (state.at?.trial === trial && $("unseen")) return showRating(); // now it can be asked
  }
  restage(trial);
}

function toggleGrey() {
  if (!state.at.trial.category) return;
  state.grey = !state.grey;
  restage(state.at.trial);
}

function restage(trial) {
  if (state.at.trial !== trial) return;
  const id = document.activeElement?.closest(".stage") ? document.activeElement.getAttribute("aria-keyshortcuts")
    : null;
  $("main").querySelector(".stage")?.replaceWith(stage(trial));
  if (id) $("main").querySelector(`.stage [aria-keyshortcuts="${id}"]`)?.focus();
}

function hideKind(category) {
  state.hidden.add(category);
  queue.put({ kind: "options", body: { opted_out: [...state.hidden] } }).answer.then(confirmed, refused);
  showRating();
}

// --- images -----------------------------------------------------------------------------------------------------

const imageName = (trial, side, covered) => `${trial.trial} ${side} ${covered ? "veil" : "clear"}`;

function load(trial, side, covered) {
  const name = imageName(trial, side, covered);
  if (!images.has(name)) {
    const wanted = fetchImage(trial.trial, side, covered);
    images.set(name, wanted);
    wanted.then((url) => url || images.delete(name));
  }
  return images.get(name);
}

async function fetchImage(token, side, covered, turns = 4) {
  for (let turn = 0; turn < turns; turn += 1) {
    try {
      const reply = await ask(`image/${token}/${side}`);
      if (reply.ok && (reply.headers.get("x-veiled") === "1") === covered) return URL.createObjectURL(
        await reply.blob());
      if (reply.ok && covered) return toVeil(await reply.blob()); // revealed before, covered again now
      if (reply.status < 500) return null;
    } catch { /* the network is away: once more */ }
    await new Promise((resolve) => setTimeout(resolve, Math.min(500 * 2 ** turn, 8000)));
  }
  return null;
}

async function toVeil(blob) {
  const bitmap = await createImageBitmap(blob, { resizeWidth: 6, resizeHeight: 6, resizeQuality: "high" });
  const canvas = el("canvas", { width: 6, height: 6 });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob((small) => resolve(URL.createObjectURL(small))));
}

function prefetch() {
  const next = session.trials.filter((trial) => !finished(trial)).slice(0, AHEAD + 1);
  for (const trial of next) for (let side = 0; side < trial.sides;
    side += 1) load(trial, side, Boolean(trial.category) && !state.shown.has(trial.trial));
}

// --- breaks, help, the end --------------------------------------------------------------------------------------

function dueBreak() {
  const { break_items: items, break_minutes: minutes } = session.study;
  const since = done() - state.rested;
  return current() && since > 0 && ((items && since >= items)
    || (minutes && Date.now() - state.since > minutes * 60000));
}

function showBreak() {
  screen = showBreak;
  state.at = null;
  const go = button([t("break.go"), el("kbd", {}, "Enter")],
    () => { state.rested = done(); state.since = Date.now(); showRating(); }, "main");
  show(el("div", { class: "card narrow" }, el("h1", {}, t("break.title")),
    el("p", {}, t("break.text", { n: done(), of: counted().length })),
    el("div", { class: "actions" }, go, button(t("stop.button"), confirmStop, "quiet"))));
  go.focus();
}

function dialog(...children) {
  const box = $("dialog");
  box.classList.remove("wide");
  box.replaceChildren(...children.filter(Boolean));
  if (!box.open) box.showModal();
  return box;
}

function showHelp() {
  const rows = [["1 – 5", "help.number"], ["A B T N", "help.pair"], ["Enter", "help.enter"], ["U", "help.undo"],
    ["S", "help.skip"],
    ["R", "help.reveal"], ["G", "help.grey"], ["Z", "help.enlarge"],
    ["?", "help.help"]];
  const box = dialog(el("h2", {}, t("help.title")),
    el("dl", {}, rows.flatMap(([key, id]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, t(id))])),
    el("p", { class: "soft" }, t("help.code", { code: code.match(/.{1,4}/g).join(" ") })),
    session.study.contact && el("p", { class: "soft" }, el("b", {}, t("consent.contact")), " ", session.study.contact),
    el("div", { class: "actions" }, button(t("help.close"), () => box.close(), "main"),
      hasInstructions() && button(t("instructions.title"), () => { box.close(); showInstructions(); }, "quiet")));
  box.setAttribute("aria-label", t("help.title"));
}

function confirmStop() {
  const box = dialog(el("h2", {}, t("stop.title")), el("p", {}, t("stop.text")),
    el("div", { class: "actions" },
      button(t("stop.yes"), () =>
        { box.close(); queue.put({ kind: "stop" }).answer.then(() => {}, refused); showEnd(true); }, "main"),
      button(t("stop.no"), () => box.close(), "quiet")));
  box.setAttribute("aria-label", t("stop.title"));
}

function showEnd(stopped = session.stopped) {
  screen = () => showEnd(stopped);
  state.at = null;
  $("help").hidden = $("stop").hidden = true;
  const all = counted();
  const more = done() < all.length;
  const { study } = session;
  const support = study.support[document.documentElement.lang] ?? Object.values(study.support)[0];
  show(el("div", { class: "card narrow" },
    el("h1", {}, t("end.title")),
    el("p", {}, t(more ? "end.stopped" : "end.done", { n: done(), of: all.length })),
    study.credit && el("p", {}, el("b", {}, t("consent.credit")), " ", study.credit),
    takeBack(session.ending),
    support && el("p", { class: "soft" }, el("b", {}, t("consent.support")), " ", support),
    study.mood && !state.mood && moodBox(),
    more && stopped ? button(t("end.back"), goOn, "quiet")
      : state.acts.length ? button(t("rate.undo"), undo, "quiet") : null));
  $("main").focus();
  if (!session.ending) askEnding();
}

function goOn() {
  session.stopped = false;
  session.ending = null; // another may be due at the next end
  state.rested = done();
  showRating();
}

// Codes are due when the server says that all is rated, or stopped; it says so once everything has arrived.
async function askEnding() {
  const at = screen;
  await emptied();
  try {
    const reply = await ask("session");
    if (reply.ok) session.ending = (await reply.json()).ending;
  } catch { return; }
  if (session.ending && screen === at) screen();
}

function takeBack(ending) {
  if (!ending) return null;
  const web = /^https?:/.test(ending.back);
  return el("div", { class: "ending" },
    ending.back && (web ? el("p", {}, el("a", { class: "main", href: ending.back, rel: "noreferrer" }, t("end.return")))
      : el("p", {}, t("end.return.code"), " ", el("code", {}, ending.back))),
    el("p", {}, t("end.code"), " ", el("code", {}, ending.receipt)));
}

function moodBox() {
  const faces = [1, 2, 3, 4, 5].map((value) => button(t(`mood.${value}`), () => {
    state.mood = value;
    queue.put({ kind: "mood", body: { value } }).answer.then(confirmed, refused);
    screen();
  }, "quiet"));
  return el("fieldset", { class: "mood" }, el("legend", {}, t("mood.title")), ...faces);
}

function showPlain(title, text) {
  screen = () => showPlain(title, text);
  show(el("div", { class: "card narrow" }, el("h1", {}, t(title)), el("p", {}, t(text))));
}

// --- keys -------------------------------------------------------------------------------------------------------

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("dialog").open) return;
  const typing = event.target.matches("input:not([type=radio]), select, textarea");
  if (typing || !state) return;
  if (event.key === "?") { showHelp(); event.preventDefault(); return; }
  if (event.key.toLowerCase() === "u" && state.acts.length && !event.repeat && (state.at || !current())) { undo();
    event.preventDefault(); return; }
  if (!state.at) return;
  const { question } = state.at;
  const key = event.key.toLowerCase();
  if (event.key === "Enter" && !event.target.matches("button, a")) save();
  else if (state.feedback) return;
  else if (question.kind === "pair" && key in LETTERS) pick(question.values.indexOf(LETTERS[key]));
  else if (["scale", "choice"].includes(question.kind) && /^[1-9]$/.test(key)) pick(Number(key) - 1);
  else if (key === "r") toggleCover();
  else if (key === "g") toggleGrey();
  else if (key === "z") $("main").querySelector(".enlarge")?.click();
  else if (key === "s" && !event.repeat) skip();
  else return;
  event.preventDefault();
}

start();
