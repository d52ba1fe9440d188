// "Disagree?" under a judged image: a dialog in which a visitor says what the judge should have said, and the count of it.
// What was said is kept in this tab's sessionStorage and sent nowhere. All text is set as text, never as markup.
(() => {
  const KEPT = "livo-disagree", CANNOT_TELL = "cannot tell", Z = 1.959963984540054;
  let memory = {}; // where the browser keeps nothing

  const recall = () => { try { return JSON.parse(sessionStorage.getItem(KEPT)) ?? {}; } catch { return memory; } };
  const keep = (said) => { memory = said; try { sessionStorage.setItem(KEPT, JSON.stringify(said)); } catch { /* private mode */ } };
  const keyOf = (element) => element.closest(".comparison").dataset.comparison;
  const saidOf = (element) => recall()[keyOf(element)] ?? {};

  function wilson(count, n) {
    const p = count / n, z2 = Z * Z;
    const middle = (p + z2 / (2 * n)) / (1 + z2 / n);
    const half = (Z / (1 + z2 / n)) * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n));
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  }

  function shareText(count, n) {
    if (!n) return "no image that it placed";
    const percent = (share) => (Math.floor(1000 * share + 0.5) / 10).toFixed(1); // halves upward, as disagree.py rounds
    const [low, high] = wilson(count, n).map(percent);
    return `${count} of ${n}: ${percent(count / n)} % [${low}, ${high}]`;
  }

  function refresh(comparison) {
    const said = recall()[comparison.dataset.comparison] ?? {};
    const counts = {};
    for (const button of comparison.querySelectorAll("button.disagree")) {
      const verdict = JSON.parse(button.dataset.verdict), mine = said[button.dataset.image] ?? {};
      for (const [question, label] of Object.entries(verdict)) {
        if (label === null) continue;
        counts[question] ??= [0, 0];
        counts[question][0] += mine[question] !== undefined;
        counts[question][1] += 1;
      }
      const any = Object.keys(mine).length > 0;
      button.classList.toggle("said", any);
      button.textContent = any ? "You disagree" : "Disagree?";
    }
    for (const row of comparison.querySelectorAll(".tally tr[data-question]")) {
      const cell = row.querySelector(".share"), text = shareText(...(counts[row.dataset.question] ?? [0, 0]));
      if (cell.textContent !== text) cell.textContent = text;
    }
    const forget = comparison.querySelector("button.forget");
    if (forget) forget.hidden = Object.keys(said).length === 0;
  }

  function say(button, question, label) {
    const all = recall(), key = keyOf(button);
    const mine = { ...all[key]?.[button.dataset.image] };
    if (label === null) delete mine[question]; else mine[question] = label;
    const here = { ...all[key], [button.dataset.image]: mine };
    if (!Object.keys(mine).length) delete here[button.dataset.image];
    keep({ ...all, [key]: here });
    refresh(button.closest(".comparison"));
  }

  const make = (tag, text, attributes = {}) => {
    const element = Object.assign(document.createElement(tag), attributes);
    if (text) element.textContent = text;
    return element;
  };

  function open(button) {
    const comparison = button.closest(".comparison"), mine = saidOf(button)[button.dataset.image] ?? {};
    const dialog = make("dialog", "", { className: "disagree-dialog" });
    const title = make("h3", "Do you read it otherwise?", { id: "disagree-title" });
    dialog.setAttribute("aria-labelledby", title.id);
    const shown = button.closest("figure").querySelector(".frame > img");
    dialog.append(title);
    const covered = shown.closest(".covered .frame:not(.shown)") !== null;
    const picture = make("img", "", { src: shown.src, alt: shown.alt, className: covered ? "veiled" : "" });
    dialog.append(picture);
    if (covered) dialog.append(make("p", "It is covered: press Show under the image to look before you say."));
    for (const [question, label] of Object.entries(JSON.parse(button.dataset.verdict))) {
      const row = comparison.querySelector(`.tally tr[data-question="${CSS.escape(question)}"]`);
      const field = make("label", "", { className: "field" });
      field.append(make("span", `${row.dataset.name}. The judge says: ${label ?? CANNOT_TELL}`));
      if (label !== null) {
        const select = make("select");
        select.append(make("option", "I agree", { value: "" }));
        const others = JSON.parse(row.dataset.classes).filter((name) => name !== label);
        for (const name of [...others, CANNOT_TELL]) select.append(make("option", `No: ${name}`, { value: name }));
        select.value = mine[question] ?? "";
        select.addEventListener("change", () => say(button, question, select.value || null));
        field.append(select);
      }
      dialog.append(field);
    }
    const done = make("button", "Done", { type: "button", className: "done" });
    done.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => { dialog.remove(); if (button.isConnected) button.focus(); });
    dialog.append(done);
    (document.querySelector(".gradio-container") ?? document.body).append(dialog);
    dialog.showModal();
    (dialog.querySelector("select") ?? done).focus();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.disagree");
    if (button) open(button);
    const forget = event.target.closest("button.forget");
    if (forget) {
      const comparison = forget.closest(".comparison"), { [comparison.dataset.comparison]: _, ...rest } = recall();
      keep(rest);
      refresh(comparison);
      comparison.querySelector("button.disagree")?.focus();
    }
  });

  // A grid is drawn anew with every report: what was said of it before is put back.
  new MutationObserver((changes) => {
    for (const change of changes)
      for (const node of change.addedNodes)
        if (node.nodeType === 1) for (const comparison of node.querySelectorAll?.(".comparison[data-comparison]") ?? []) refresh(comparison);
    for (const change of changes) if (change.target.matches?.(".comparison[data-comparison]")) refresh(change.target);
  }).observe(document, { childList: true, subtree: true });
})();
