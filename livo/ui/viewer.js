// A picture enlarged: arrows between seeds and methods, a slider between the base model's picture and the method's of
// one seed, what the judge says of it, and where a visitor reads it otherwise. What was said is kept in this tab's
// sessionStorage and sent nowhere. All text is set as text, never as markup.
(() => {
  const KEPT = "livo-disagree", CANNOT_TELL = "cannot tell", Z = 1.959963984540054;
  let memory = {}; // where the browser keeps nothing

  const recall = () => { try { return JSON.parse(sessionStorage.getItem(KEPT)) ?? {}; } catch { return memory; } };
  const keep = (said) => {
    memory = said;
    try { sessionStorage.setItem(KEPT, JSON.stringify(said)); } catch { /* private mode */ }
  };
  const keyOf = (element) => element.closest(".comparison").dataset.comparison;
  const saidOf = (element) => recall()[keyOf(element)] ?? {};

  // --- the count of what a visitor reads otherwise ------------------------------------------------------------------

  function wilson(count, n) {
    const p = count / n, z2 = Z * Z;
    const middle = (p + z2 / (2 * n)) / (1 + z2 / n);
    const half = (Z / (1 + z2 / n)) * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n));
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  }

  function shareText(count, n) {
    if (!n) return "no image that it placed";
    const percent = (share) => (Math.floor(1000 * share + 0.5) / 10).toFixed(1); // halves upward, as rows.py rounds
    const [low, high] = wilson(count, n).map(percent);
    return `${count} of ${n}: ${percent(count / n)} % [${low}, ${high}]`;
  }

  function refresh(comparison) {
    const said = recall()[comparison.dataset.comparison] ?? {};
    const counts = {};
    for (const cell of comparison.querySelectorAll("[data-answers]")) {
      const mine = said[cell.dataset.image] ?? {};
      for (const [question, label] of Object.entries(JSON.parse(cell.dataset.answers))) {
        if (label === null) continue;
        counts[question] ??= [0, 0];
        counts[question][0] += mine[question] !== undefined;
        counts[question][1] += 1;
      }
      cell.classList.toggle("said", Object.keys(mine).length > 0);
    }
    for (const row of comparison.querySelectorAll(".tally tr[data-question]")) {
      const cell = row.querySelector(".share"), text = shareText(...(counts[row.dataset.question] ?? [0, 0]));
      if (cell.textContent !== text) cell.textContent = text;
    }
    const forget = comparison.querySelector("button.forget");
    if (forget) forget.hidden = Object.keys(said).length === 0;
  }

  function say(cell, question, label) {
    const all = recall(), key = keyOf(cell), image = cell.dataset.image;
    const mine = { ...all[key]?.[image] };
    if (label === null) delete mine[question]; else mine[question] = label;
    const here = { ...all[key], [image]: mine };
    if (!Object.keys(mine).length) delete here[image];
    keep({ ...all, [key]: here });
    refresh(cell.closest(".comparison"));
  }

  // --- the viewer ---------------------------------------------------------------------------------------------------

  const make = (tag, text, attributes = {}) => {
    const element = Object.assign(document.createElement(tag), attributes);
    if (text) element.textContent = text;
    return element;
  };
  const titleOf = (cell) => cell.closest(".method, .strip").getAttribute("aria-label")
    .replace(/^Pictures of (.*), one a seed$/, "$1");
  const imageOf = (cell) => cell.querySelector("button.picture img");
  const coveredNow = (cell) => cell.matches(".covered") && !cell.querySelector(".frame.shown");
  const cellsOf = (strip) => [...strip.querySelectorAll(".cell")].filter((cell) => imageOf(cell));

  let dialog = null, cell = null;

  function neighbour(key) {
    const strip = cell.closest(".strip"), cells = cellsOf(strip), at = cells.indexOf(cell);
    if (key === "ArrowLeft") return cells[at - 1];
    if (key === "ArrowRight") return cells[at + 1];
    const strips = [...(strip.closest(".rows")?.querySelectorAll(".strip") ?? [strip])];
    const other = strips[strips.indexOf(strip) + (key === "ArrowUp" ? -1 : 1)];
    return other && cellsOf(other)[at];
  }

  function go(key) {
    const next = neighbour(key);
    if (next) { cell = next; draw(); }
  }

  function picture(of, extra = "") {
    const shown = imageOf(of);
    return make("img", "", { src: shown.src, alt: shown.alt, className: `${coveredNow(of) ? "veiled" : ""} ${extra}` });
  }

  function draw() {
    const parts = [make("h2", `${titleOf(cell)}, seed ${cell.dataset.seed}`, { id: "viewer-title" })];
    const stage = make("div", "", { className: "stage" });
    stage.append(picture(cell));
    const strips = [...(cell.closest(".rows")?.querySelectorAll(".strip") ?? [])];
    const base = strips.length ? strips[0].querySelector(`.cell[data-seed="${cell.dataset.seed}"]`) : null;
    const hidden = coveredNow(cell) || (base && coveredNow(base));
    if (base && base !== cell && imageOf(base) && !hidden) {
      const top = picture(base, "base"), range = make("input", "", { type: "range", min: 0, max: 100, value: 0 });
      range.setAttribute("aria-label", `From ${titleOf(cell)} to ${titleOf(base)}`);
      const cut = () => { top.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`; };
      range.addEventListener("input", cut);
      cut();
      stage.append(top);
      const words = `Slide to ${titleOf(base)}'s picture of the same seed:`;
      parts.push(stage, make("p", words, { className: "slide" }), range);
    } else parts.push(stage);
    if (coveredNow(cell)) parts.push(make("p", "It is covered: close this and press “show” on it to look."));
    const note = cell.dataset.note;
    const did = note === "no value" ? "No value in front of the prompt." : `What the method did: ${note}.`;
    if (note) parts.push(make("p", did));
    parts.push(...opinions());
    const bar = make("div", "", { className: "viewer-keys" });
    for (const [key, sign, name] of [["ArrowLeft", "←", "Previous seed"], ["ArrowRight", "→", "Next seed"],
      ["ArrowUp", "↑", "Method above"], ["ArrowDown", "↓", "Method below"]]) {
      const button = make("button", sign, { type: "button", disabled: !neighbour(key) });
      button.setAttribute("aria-label", name);
      button.addEventListener("click", () => go(key));
      bar.append(button);
    }
    const done = make("button", "Close", { type: "button", className: "done" });
    done.addEventListener("click", () => dialog.close());
    bar.append(done);
    const focused = dialog.querySelector(".viewer-keys button:focus")?.getAttribute("aria-label");
    dialog.replaceChildren(bar, ...parts);
    const again = focused && dialog.querySelector(`.viewer-keys button[aria-label="${focused}"]:not(:disabled)`);
    (again || done).focus();
  }

  function opinions() {
    if (!cell.dataset.answers) return [];
    const comparison = cell.closest(".comparison"), mine = saidOf(cell)[cell.dataset.image] ?? {};
    const own = cell; // the listener of a field stays with its picture
    return Object.entries(JSON.parse(cell.dataset.answers)).map(([question, label]) => {
      const row = comparison.querySelector(`.tally tr[data-question="${CSS.escape(question)}"]`);
      const field = make(label === null ? "p" : "label", "", { className: "field" });
      field.append(make("span", `${row?.dataset.name ?? question}. The judge says: ${label ?? CANNOT_TELL}`));
      if (label === null || !row) return field;
      const select = make("select");
      select.append(make("option", "I agree", { value: "" }));
      const others = JSON.parse(row.dataset.classes).filter((name) => name !== label);
      for (const name of [...others, CANNOT_TELL]) select.append(make("option", `No: ${name}`, { value: name }));
      select.value = mine[question] ?? "";
      select.addEventListener("change", () => say(own, question, select.value || null));
      field.append(select);
      return field;
    });
  }

  function open(from) {
    cell = from;
    dialog = make("dialog", "", { className: "viewer" });
    dialog.setAttribute("aria-labelledby", "viewer-title");
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      if (!/^Arrow/.test(event.key) || event.target.closest("select, input")) return;
      event.preventDefault();
      go(event.key);
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      const button = cell.isConnected ? cell.querySelector("button.picture") : null;
      if (button) { button.tabIndex = 0; button.focus(); }
    });
    (document.querySelector(".gradio-container") ?? document.body).append(dialog);
    dialog.showModal();
    draw();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.picture");
    if (button) open(button.closest(".cell"));
    const forget = event.target.closest("button.forget");
    if (forget) {
      const comparison = forget.closest(".comparison"), { [comparison.dataset.comparison]: _, ...rest } = recall();
      keep(rest);
      refresh(comparison);
      comparison.querySelector("button.picture")?.focus();
    }
  });

  // Rows are drawn anew with every report: what was said of them before is put back.
  new MutationObserver((changes) => {
    const found = new Set();
    for (const change of changes) {
      for (const node of change.addedNodes) {
        if (node.nodeType === 1) node.querySelectorAll(".comparison[data-comparison]").forEach((one) => found.add(one));
      }
      if (change.target.matches?.(".comparison[data-comparison]")) found.add(change.target);
    }
    found.forEach(refresh);
  }).observe(document, { childList: true, subtree: true });
})();
