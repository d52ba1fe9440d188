// What all pages share: making elements, asking the server, and remembering a little in this browser.

export const $ = (id) => document.getElementById(id);
export const BASE = new URL(document.documentElement.dataset.root ?? "./", location.href).pathname; // of this site

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  fill(node, attributes);
  node.append(...children.flat(2).filter((child) => child != null && child !== false));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(node, attributes);
  node.append(...children.flat(2).filter((child) => child != null && child !== false));
  return node;
}

function fill(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value); // by property: the policy forbids style attributes
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
}

// Text of a lesson file, made into HTML by the server; nothing that a person typed comes this way.
export function prose(html, kind = "prose") {
  const node = el("div", { class: kind });
  node.innerHTML = html;
  return node;
}

export function button(text, action, kind = "quiet", attributes = {}) {
  return el("button", { type: "button", class: kind, onclick: action, ...attributes }, text);
}

export function show(...nodes) {
  $("main").replaceChildren(...nodes.filter(Boolean));
}

export function announce(text, kind = "") {
  const banner = $("banner");
  if (banner.textContent === text && !banner.hidden === Boolean(text)) return;
  banner.textContent = text;
  banner.className = `banner ${kind}`;
  banner.hidden = !text;
}

// Resolves with {status, payload, etag}; status 0 where the server cannot be reached.
export async function ask(path, { word = "", body = null, etag = "" } = {}) {
  const headers = {};
  if (word) headers.authorization = `Bearer ${word}`;
  if (body) headers["content-type"] = "application/json";
  if (etag) headers["if-none-match"] = etag;
  try {
    const reply = await fetch(`${BASE}api/${path}`, {
      method: body ? "POST" : "GET", headers, cache: "no-store", body: body && JSON.stringify(body),
    });
    const payload = reply.status === 304 ? null : await reply.json();
    return { status: reply.status, payload, etag: reply.headers.get("etag") ?? "" };
  } catch {
    return { status: 0, payload: null, etag: "" };
  }
}

// Hands the browser a file that the server made for whoever holds the word.
export async function save(path, word, name) {
  const reply = await fetch(`${BASE}api/${path}`, { headers: { authorization: `Bearer ${word}` }, cache: "no-store" });
  if (!reply.ok) throw new Error((await reply.json()).message);
  const link = el("a", { href: URL.createObjectURL(await reply.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function randomWord(bytes = 16) { // crypto.randomUUID is not there on plain http, which a class's laptop serves
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function recall(name, otherwise = null, store = "localStorage") {
  try {
    return JSON.parse(window[store].getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value, store = "localStorage") {
  try {
    window[store].setItem(name, JSON.stringify(value));
  } catch { /* a private window may refuse; all that is lost is the place after a refresh */ }
}

export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

// Calls `once` now and then, sooner where it resolves with true; slower where the page is not looked at.
export function poll(once, milliseconds) {
  let timer = 0;
  const turn = async () => {
    clearTimeout(timer);
    let wait = milliseconds;
    try {
      if ((await once()) === false) return; // over
    } catch (error) {
      console.error(error);
    }
    if (document.hidden) wait *= 4;
    timer = setTimeout(turn, wait * (0.85 + 0.3 * Math.random()));
  };
  document.addEventListener("visibilitychange", () => !document.hidden && turn());
  turn();
  return turn;
}
