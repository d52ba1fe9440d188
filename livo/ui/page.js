// What the page does by itself: drawers open, another principle is compared at one press, covered pictures are shown
// and covered again, links are copied, a guess is taken, and arrow keys move within a strip, a line of chips and the
// tabs.
// One listener of each kind on the document, so that it outlives every redraw of the comparison.
(() => {
  const $ = (selector) => document.querySelector(selector);

  document.addEventListener("click", (event) => {
    const pressed = (selector) => event.target.closest(selector);
    const toggle = pressed("button.toggle");
    if (toggle) open(toggle, $(`#${toggle.dataset.opens}`));
    const more = pressed("button.more");
    if (more) open(more, more.closest(".method").querySelector(".details"));
    const ask = pressed("button.ask");
    if (ask) askFor(ask.dataset.prompt);
    const choose = pressed("button.choose");
    if (choose) compareUnder(choose.dataset.principle);
    const one = pressed("button.reveal");
    if (one) cover(one.closest(".frame"), one.getAttribute("aria-pressed") === "true");
    const all = pressed("button.reveal-all");
    if (all) coverAll(all);
    const copy = pressed("button.copy-link");
    if (copy) copyLink(copy);
    const skip = pressed("a.skip");
    if (skip) {
      event.preventDefault();
      const strip = [...document.querySelectorAll(".strip")].find((one) => one.offsetParent);
      (strip && membersOf(strip).find((button) => button.tabIndex === 0))?.focus();
    }
  });

  // A double click asks once: what is pressed during a comparison is asked after it.
  document.addEventListener("click", (event) => {
    if (event.detail > 1 && event.target.closest("#go")) event.stopPropagation();
  }, true);

  // Gradio forgets what is pressed while it stops a comparison, which takes up to a step: it is pressed again then.
  let stopping = 0, again = null;
  const send = window.fetch;
  window.fetch = (...request) => {
    const answer = send(...request);
    if (/\/gradio_api\/(cancel|reset)\b/.test(String(request[0]?.url ?? request[0]))) {
      stopping += 1;
      answer.catch(() => {}).finally(() => setTimeout(() => {
        stopping -= 1;
        if (stopping || !again) return;
        const button = again;
        again = null;
        button.click();
      }, 200)); // a reset follows a cancel at once
    }
    return answer;
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#go, #live-go");
    if (!button || !stopping) return;
    again = button;
    event.stopPropagation();
  }, true);

  function open(button, panel) {
    const opening = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(opening));
    panel.hidden = !opening;
    panel.classList.toggle("open", opening);
  }

  function setValue(box, text) {
    const kind = box.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(box, text);
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function askFor(prompt) {
    setValue($("#prompt textarea, #prompt input"), prompt);
    setTimeout(() => $("#go").click(), 50); // once Gradio has taken the text over
  }

  function compareUnder(principle) {
    const select = $("#principle select");
    select.value = principle;
    select.dispatchEvent(new Event("change", { bubbles: true }));
    setTimeout(() => $("#go").click(), 50); // once Gradio has taken the choice over
  }

  function cover(frame, covering) {
    const image = frame.querySelector("button.picture img");
    const button = frame.querySelector("button.reveal");
    const clear = frame.querySelector("template").content.querySelector("img");
    if ((button.getAttribute("aria-pressed") === "true") !== covering) return; // as wanted already
    if (!covering) image.dataset.cover = JSON.stringify([image.src, image.alt]);
    [image.src, image.alt] = covering ? JSON.parse(image.dataset.cover) : [clear.src, clear.alt];
    frame.classList.toggle("shown", !covering);
    button.setAttribute("aria-pressed", String(!covering));
    button.lastChild.textContent = covering ? "show" : "cover";
  }

  function coverAll(all) {
    const covering = all.getAttribute("aria-pressed") === "true";
    all.closest(".comparison").querySelectorAll(".covered .frame").forEach((frame) => cover(frame, covering));
    all.setAttribute("aria-pressed", String(!covering));
    all.textContent = covering ? "Show all" : "Cover all";
  }

  async function copyLink(button) {
    const field = button.closest(".permalink").querySelector("input");
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
    } catch { // no clipboard in a frame or without https: the text is selected, Ctrl+C takes it
      button.textContent = "Press Ctrl+C";
    }
  }

  // A guess: the pictures show once it is made, and it stands on every bar.
  document.addEventListener("input", (event) => {
    const range = event.target.closest("form.guess input");
    if (range) range.nextElementSibling.textContent = `${range.value} %`;
  });
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form.guess");
    if (!form) return;
    event.preventDefault();
    const comparison = form.closest(".comparison"), guess = Number(form.querySelector("input").value);
    comparison.classList.add("guessed");
    const bars = `.readout .bar[data-toward="${CSS.escape(comparison.dataset.guess)}"]`;
    for (const bar of comparison.querySelectorAll(bars)) {
      const mark = Object.assign(document.createElement("i"), { className: "guess-mark" });
      mark.style.left = `${guess}%`;
      mark.title = `your guess, ${guess} %`;
      bar.append(mark);
    }
    form.replaceChildren(Object.assign(document.createElement("p"), {
      textContent: `You guessed ${guess} % perceived as ${comparison.dataset.guess}: the small triangle on the bars.`,
    }));
  });

  // A trial of rating: one form after another, and at the end how often the judge agrees. Nothing leaves the page.
  document.addEventListener("click", (event) => {
    const begin = event.target.closest("button.trial-begin");
    if (!begin) return;
    const trial = begin.closest(".trial");
    trial.querySelectorAll("form").forEach((form) => form.reset());
    trial.querySelector(".trial-end").hidden = true;
    begin.hidden = true;
    showStep(trial.querySelector("form"));
  });
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form.trial-step");
    if (!form) return;
    event.preventDefault();
    form.hidden = true;
    const trial = form.closest(".trial"), forms = [...trial.querySelectorAll("form")];
    const next = forms[forms.indexOf(form) + 1];
    if (next) { showStep(next); return; }
    const alike = forms.filter((one) => one.elements.perceived.value === one.dataset.judge).length;
    const fit = forms.reduce((sum, one) => sum + Number(one.elements.fit.value), 0) / forms.length;
    const end = trial.querySelector(".trial-end"), begin = trial.querySelector(".trial-begin");
    end.textContent = `You perceived ${alike} of ${forms.length} as the judge does, and found them to fit ${
      fit.toFixed(1)} of 5 on average. Nothing of it was stored.`;
    begin.textContent = "Once more";
    end.hidden = begin.hidden = false;
    begin.focus();
  });
  function showStep(form) {
    form.hidden = false;
    form.querySelector("input").focus();
  }

  // --- the keyboard: one stop for a group, arrows within it ---------------------------------------------------------

  const GROUPS = ".strip, .chips, [role=tablist]";
  const membersOf = (group) => [...group.querySelectorAll(group.matches(".strip") ? "button.picture" : "button")]
    .filter((button) => button.offsetParent);

  document.addEventListener("keydown", (event) => {
    const group = event.target.closest?.(GROUPS);
    if (!group || event.altKey || event.ctrlKey || event.metaKey) return;
    const members = membersOf(group);
    const at = members.indexOf(event.target.closest("li")?.querySelector("button.picture") ?? event.target);
    if (at < 0) return;
    let next = { ArrowRight: members[at + 1], ArrowLeft: members[at - 1], Home: members[0], End: members.at(-1)
      }[event.key];
    if (group.matches(".strip") && /^Arrow(Up|Down)$/.test(event.key)) {
      const strips = [...group.closest(".rows").querySelectorAll(".strip")];
      next = membersOf(strips[strips.indexOf(group) + (event.key === "ArrowUp" ? -1 : 1)] ?? group)[at];
    }
    if (!next) return;
    event.preventDefault();
    rove(next.closest(GROUPS), next);
    next.focus();
  });

  function rove(group, current) {
    const own = current.closest("li") ?? current;
    for (const button of group.querySelectorAll("button")) {
      const stop = button === current || (own !== current && own.contains(button));
      if (button.tabIndex !== (stop ? 0 : -1)) button.tabIndex = stop ? 0 : -1;
    }
  }

  function tidy() {
    for (const group of document.querySelectorAll(GROUPS)) {
      const members = membersOf(group);
      const current = group.matches("[role=tablist]")
        ? members.find((tab) => tab.getAttribute("aria-selected") === "true")
        : members.find((button) => button.tabIndex === 0 && button.hasAttribute("tabindex"));
      if (members.length) rove(group, current ?? members[0]);
    }
  }
  // What stands there is kept in this tab, for after a reload: the link's text and the name on the server's shelf.
  function remember() {
    const name = $("#link a[download]")?.getAttribute("href").split("/")[1];
    if (!name) return;
    const link = $("#link input")?.value;
    const recipe = link ? new URL(link).searchParams.get("r") : "";
    const text = JSON.stringify({ recipe, name });
    if (remembered === text) return;
    if (remembered === null && !recipe && recalled()) return; // the page's own start is not what the tab showed last
    remembered = text;
    try { sessionStorage.setItem("livo-last", text); } catch { /* private mode */ }
  }
  let remembered = null;
  function recalled() {
    try { return sessionStorage.getItem("livo-last"); } catch { return null; }
  }

  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; tidy(); remember(); });
  }).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
})();
