// What the page does by itself: presets fill the prompt box; another principle is compared at one press; covered images are shown and covered again; links are copied.
// One listener on the document, so that it outlives every redraw of the grid.
document.addEventListener("click", (event) => {
  const preset = event.target.closest("button.preset");
  if (preset) {
    const box = document.querySelector("#prompt textarea, #prompt input");
    const kind = box.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(box, preset.dataset.prompt);
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.focus();
  }
  const choose = event.target.closest("button.choose");
  if (choose) {
    const select = document.querySelector("#principle select");
    select.value = choose.dataset.principle;
    select.dispatchEvent(new Event("change", { bubbles: true }));
    setTimeout(() => document.querySelector("#go").click(), 50); // once Gradio has taken the choice over
  }
  const one = event.target.closest("button.reveal");
  if (one) cover(one.closest(".frame"), one.getAttribute("aria-pressed") === "true");
  const copy = event.target.closest("button.copy-link");
  if (copy) copyLink(copy);
  const all = event.target.closest("button.reveal-all");
  if (all) {
    const covering = all.getAttribute("aria-pressed") === "true";
    all.closest(".comparison").querySelectorAll(".covered .frame").forEach((frame) => cover(frame, covering));
    all.setAttribute("aria-pressed", String(!covering));
    all.textContent = covering ? "Show all" : "Cover all";
  }
});

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

function cover(frame, covering) {
  const image = frame.querySelector("img");
  const button = frame.querySelector("button.reveal");
  const clear = frame.querySelector("template").content.querySelector("img");
  if ((button.getAttribute("aria-pressed") === "true") !== covering) return; // as wanted already
  if (!covering) image.dataset.cover = JSON.stringify([image.src, image.alt]);
  [image.src, image.alt] = covering ? JSON.parse(image.dataset.cover) : [clear.src, clear.alt];
  frame.classList.toggle("shown", !covering);
  button.setAttribute("aria-pressed", String(!covering));
  button.textContent = covering ? "Show" : "Cover";
}
