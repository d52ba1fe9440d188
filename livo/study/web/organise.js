// The organiser's page: links, live progress, pause, withdraw, results. The key stands behind the # of the link.
import { $, announce, ask, BASE, button, el, recall, remember, save, show } from "./dom.js";

let key = location.hash.slice(1) || recall("organiser", "", "sessionStorage");
remember("organiser", key, "sessionStorage");
history.replaceState(null, "", location.pathname); // nobody reads it over a shoulder, and no history keeps it
let status = null;

async function refresh() {
  const reply = await ask("organise/status", { word: key });
  if (reply.status === 401) return askKey();
  if (reply.status !== 200) return announce(reply.payload?.message ?? "The server cannot be reached; trying again.",
    "warn");
  status = reply.payload;
  remember("organiser", key, "sessionStorage");
  announce(status.problems.length ? `The store needs a look: ${status.problems.slice(0, 3).join("; ")}` : "", "warn");
  draw();
}

function askKey() {
  const input = el("input", { id: "code", autocomplete: "off", spellcheck: "false" });
  show(el("form", { class: "card narrow",
    onsubmit: (event) => { event.preventDefault(); key = input.value.trim(); refresh(); } },
    el("h2", {}, "The organiser's key"),
      el("p", {}, "It stands in the link that ", el("code", {}, "study serve"), " prints."),
    el("label", { for: "code" }, "Key"), input, el("button", { type: "submit", class: "main" }, "Open")));
  input.focus();
}

async function act(name, rater) {
  const reply = await ask("organise/act", { word: key, body: { act: name, rater } });
  if (reply.status !== 200) announce(reply.payload?.message ?? "The server cannot be reached; press again.", "warn");
  else await refresh();
}

function fetched(path, name) {
  return save(`organise/${path}`, key, name).catch((error) => announce(error.message, "warn"));
}

const row = (name, value) => el("tr", {}, el("th", { scope: "row" }, name),
  el("td", { class: "number" }, String(value)));

const name = (number) => `r${String(number + 1).padStart(3, "0")}`;
const chosen = (rule) => status.rules.some((one) => one.id === rule && one.chosen);

// Of each two methods, what is expected; a dash where a report prints no interval.
function plan(what, rows) {
  if (!rows.length) return null;
  const head = ["Methods", "Ratings", "Interval", "Found"];
  const number = (value, sign = "") => el("td", { class: "number" }, value === null ? "-" : sign + value.toFixed(1));
  return [el("p", { class: "soft" }, what),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": what }, el("table", {},
      el("thead", {}, el("tr", {}, head.map((name, i) => el("th", { scope: "col", class: i ? "number" : "" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, el("td", {}, row.methods.join(", ")),
        el("td", { class: "number" }, String(row.n)), number(row.half_width, "± "), number(row.detectable))))))];
}

function draw() {
  const { outlook } = status;
  $("title").textContent = status.title;
  $("tools").replaceChildren(...[
    status.making && button(status.making.state === "running" ? "Making a study …" : "New study", showNew, "quiet",
      { disabled: status.making.state === "running" }),
    button(status.paused ? "Resume" : "Pause", () => act(status.paused ? "resume" : "pause"),
      status.paused ? "main" : "quiet"),
    button("Report", () => fetched("report", "report.html")),
      button("Exports", () => fetched("exports.zip", "study.zip"))].filter(Boolean));
  const per = outlook.raters_per_image;
  const summary = el("section", { class: "card" }, el("h2", {}, "The study"), el("table", {}, el("tbody", {},
    row("Images", outlook.images), row("Raters", outlook.raters),
      row("Images a rater, checks included", outlook.trials_per_rater),
    row("Minutes a rater, about", outlook.minutes_per_rater),
      row("Raters an image", `${per.mean.toFixed(1)} (${per.least} to ${per.most})`),
    row("Answers stored", status.answers),
      row("Last durable save", status.last_saved ? new Date(status.last_saved).toLocaleString() : "none yet"),
    row("State", status.paused ? "paused" : status.frozen ? "frozen and under way" : "may still be changed"),
      row("Version", status.version))));
  const widths = el("section", { class: "card" }, el("h2", {}, "What the study can tell"),
    plan("Difference of two methods' mean ratings, in points of 100, when all finish.", outlook.differences),
    plan("Of comparisons, the share that prefers one of two methods, in points off 50 %.", outlook.preferences),
    [...outlook.differences, ...outlook.preferences].some((row) => row.half_width === null)
      && el("p", { class: "problem" }, "Below 5 raters or 5 prompts no interval is printed: have more of them."),
    el("p", { class: "soft" },
      "Found: the smallest difference that the study finds with 80 % power. Both methods are rated on the same " +
        "prompts by the same raters, so what these have in common drops out. From assumed spreads; " +
        "the report prints yours."));
  // A phone leaves out the "roomy" columns, so that the actions are there.
  const heads = ["Rater", "State", "Done", "Skipped", "Checks right", "Last answer", "Actions"];
  const raters = el("section", { class: "card" }, el("h2", {}, "Raters"),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Raters" },
    el("table", {}, el("thead", {}, el("tr", {},
      heads.map((head, i) => el("th", { scope: "col", class: i > 2 && i < 6 ? "roomy" : "" }, head)))),
      el("tbody", {}, status.raters
        .map((row) => el("tr", {}, el("td", {}, name(row.rater)),
        el("td", {}, row.state),
        el("td", {}, `${row.done} of ${row.trials}`), el("td", { class: "roomy" }, String(row.skipped)),
          el("td", { class: "roomy" }, `${row.gold_right} of ${row.gold}`),
        el("td", { class: "roomy" }, row.last ? new Date(row.last).toLocaleTimeString() : ""),
        el("td", {}, button("Link", () => showLink(row.rater)), " ",
          row.state !== "withdrawn" && row.state !== "not begun"
            && button("Withdraw", () => confirmWithdraw(row.rater)))))))));
  const cells = ["number roomy", "number", "number roomy", "number roomy", "number"];
  const quality = status.quality.length ? el("section", { class: "card" }, el("h2", {}, "How carefully they rate"),
    el("p", { class: "soft" }, "A rule leaves a rater out only where study.yaml chose it before the first answer. ",
      status.rules.map((rule) => [el("b", {}, rule.id), rule.chosen ? " (chosen): " : " (not chosen): ",
        `${rule.meaning}. `])),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Quality of raters" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Rater", "Answers", "Median", "Same answer", "Agrees with most", "Checks right",
        "Rules met"].map((head, i) => el("th", { scope: "col", class: i && i < 6 ? cells[i - 1] : "" }, head)))),
      el("tbody", {}, status.quality.map((one) => el("tr", {}, el("td", {}, name(one.rater)),
        [one.answers, `${(one.median_ms / 1000).toFixed(1)} s`, `${Math.round(100 * one.same)} %`,
          one.agrees === null ? "-" : `${Math.round(100 * one.agrees)} %`, `${one.right} of ${one.checks}`]
          .map((value, i) => el("td", { class: cells[i] }, String(value))),
        el("td", {}, one.rules.map((rule) => rule + (chosen(rule) ? ": left out" : "")).join(", ") || "-")))))))
    : null;
  const shared = Object.entries(status.links_for_all);
  const invited = shared.length ? el("section", { class: "card" }, el("h2", {}, "One link for all"),
    el("p", { class: "soft" }, "Whoever comes by it gets the next free place, and comes back to it."),
    el("div", { class: "links" }, shared.map(([what, link]) => [el("b", {}, what), el("span", { class: "link" }, link),
      button("Copy link", () => navigator.clipboard.writeText(link))]))) : null;
  const { making } = status;
  const made = making?.state === "done"
    && el("p", { class: "banner" }, "The new study is open: ",
    el("a", { href: making.page, target: "_blank" }, "its organiser's page"), `, in ${making.folder}`);
  const failed = making?.state === "failed"
    && el("p", { class: "banner warn", role: "alert" }, `The study was not made: ${making.message}`);
  show(...[made, failed, el("div", { class: "panels" }, summary, widths), invited, raters, quality].filter(Boolean));
}

const FIELDS = [["title", "Title, as raters read it", "Rating pictures"], ["methods", "Methods, by comma", ""],
  ["seeds", "Seeds", "0-3"],
  ["questions", "Questions, by comma", "consistency_5,attribute,toxic,conformity"], ["raters", "Raters", "5"],
    ["ratings", "Images a rater", "60"], ["contact", "Contact", ""]];

function showNew() {
  const prompts = el("textarea", { id: "new-prompts", rows: 5, required: true });
  prompts.value = "a photo of a doctor\na photo of a nurse";
  const inputs = FIELDS.map(([name, , value]) =>
    el("input", { id: `new-${name}`, value: name === "methods" ? status.methods.join(",") : value }));
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  open(el("form", { class: "new", onsubmit: async (event) => {
    event.preventDefault();
    const body = { act: "create", prompts: prompts.value,
      ...Object.fromEntries(FIELDS.map(([name], i) => [name, inputs[i].value])) };
    const reply = await ask("organise/act", { word: key, body });
    if (reply.status === 200) { $("dialog").close(); refresh(); return; }
    problem.textContent = reply.payload?.message ?? "The server cannot be reached; try again.";
    problem.hidden = false;
  } }, el("h2", {}, "A new study"), el("label", { for: "new-prompts" }, "Prompts, one a line"), prompts,
    FIELDS.map(([name, label], i) => [el("label", { for: `new-${name}` }, label), inputs[i]]).flat(), problem,
    el("div", { class: "actions" }, el("button", { type: "submit", class: "main" }, "Make the images"),
      button("Cancel", () => $("dialog").close()))));
}

async function showLink(rater) {
  const { link, code } = status.links[rater];
  const picture = el("img", { alt: "QR code of the link", width: 220, height: 220 });
  const reply = await fetch(`${BASE}api/organise/qr/${rater}`, { headers: { authorization: `Bearer ${key}` } });
  if (reply.ok) picture.src = URL.createObjectURL(await reply.blob());
  open(el("h2", {}, `Rater ${name(rater)}`), el("p", { class: "link" }, link),
    el("p", {}, "Code: ", el("code", {}, code.match(/.{1,4}/g).join(" "))), el("p", { class: "qr" }, picture),
    el("div", { class: "actions" }, button("Copy link", () => navigator.clipboard.writeText(link), "main"),
      button("Close", () => $("dialog").close())));
}

function confirmWithdraw(rater) {
  open(el("h2", {}, `Withdraw rater ${name(rater)}?`),
    el("p", {},
      "Nothing more is accepted from this rater, and no figure uses the answers. " +
        "They can stay in the store, set aside, or be deleted from it for good."),
    el("div", { class: "actions" }, button("Set aside", () => { $("dialog").close(); act("withdraw", rater); }, "main"),
      button("Delete for good", () => { $("dialog").close(); act("erase", rater); }),
        button("Cancel", () => $("dialog").close())));
}

function open(...nodes) {
  $("dialog").replaceChildren(...nodes);
  $("dialog").showModal();
}

addEventListener("hashchange", () => location.reload());
refresh();
setInterval(() => { if (status && !$("dialog").open && !document.querySelector("td button:focus")) refresh(); }, 4000);
