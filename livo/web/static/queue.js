import { randomWord } from "./dom.js";

// Events wait in this browser until their receipt is here: through lost networks, restarts of the server, refreshes.
// One at a time and in order; every event has a key, so that sending it twice stores it once. Each waits under a name
// of its own: two tabs of one link would else write over what the other waits for.

const LATER = ["too_fast", "too_many_join", "too_many_guesses"]; // refusals that pass by themselves
const RETRY = [500, 1000, 2000, 4000, 8000, 15000];

export class Queue {
  // name: of the store in this browser; send(event) -> Response; changed(queue) after every change.
  constructor(name, send, changed) {
    this.name = name;
    this.send = send;
    this.changed = changed;
    this.waiting = read(name).map(({ event }) => event);
    this.settle = new Map();
    this.turns = 0;
    this.running = false;
    this.paused = false;
    addEventListener("online", () => this.now());
  }

  // Resolves with the receipt, or rejects with the server's refusal.
  put(event) {
    const full = { key: randomWord(), ...event };
    this.waiting.push(full);
    try {
      localStorage.setItem(`${this.name} ${full.key}`, JSON.stringify({ at: Date.now(), event: full }));
    } catch { /* a private window may refuse; the events are still in memory */ }
    this.changed(this);
    const answer = new Promise((resolve, reject) => this.settle.set(full.key, { resolve, reject }));
    this.run();
    return { key: full.key, answer };
  }

  now() {
    clearTimeout(this.timer);
    this.turns = 0;
    this.run();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    clearTimeout(this.timer);
    while (this.waiting.length) {
      const event = this.waiting[0];
      let reply = null;
      let payload = null;
      try {
        reply = await this.send(event);
        payload = await reply.json();
      } catch { reply = null; }
      this.paused = reply?.status === 423;
      const later = reply?.status === 429 && LATER.includes(payload?.code);
      const strange = reply && !reply.ok && !payload?.code; // not from us: a proxy, or a server that is still opening
      if (!reply || reply.status >= 500 || strange || later || this.paused) { // neither stored nor refused: ask again
        const wait = RETRY[Math.min(this.turns, RETRY.length - 1)];
        this.turns += 1;
        this.timer = setTimeout(() => this.run(), wait);
        break;
      }
      this.turns = 0;
      this.waiting.shift();
      try { localStorage.removeItem(`${this.name} ${event.key}`); } catch { /* as above */ }
      this.changed(this);
      const { resolve, reject } = this.settle.get(event.key) ?? {};
      this.settle.delete(event.key);
      if (reply.ok) resolve?.(payload);
      else if (reject) reject(Object.assign(new Error(payload.message), payload, { status: reply.status }));
    }
    this.running = false;
    this.changed(this);
  }
}

// What waits in this browser, the oldest first, also what a tab that was closed left behind.
function read(name) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(`${name} `))
      .map((key) => JSON.parse(localStorage.getItem(key))).filter((kept) => kept?.event).sort((a, b) => a.at - b.at);
  } catch {
    return [];
  }
}
