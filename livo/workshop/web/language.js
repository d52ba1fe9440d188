// The page's language: `?lang=de`. Words that words.LANGUAGE.json does not have stay English.
const given = new URLSearchParams(location.search).get("lang");
const language = /^[a-z]{2}$/.test(given ?? "") ? given : "";
export const LANGUAGE = language ? `?lang=${language}` : "";
let words = {};
if (language) {
  try {
    const reply = await fetch(new URL(`words.${language}.json`, import.meta.url));
    if (reply.ok) words = await reply.json();
    document.documentElement.lang = language;
  } catch { /* the page stays English */ }
}

// `say("{n} of {of} answered", { n, of })`: words in the page's language, with values in their places.
export const say = (text, values = {}) =>
  (words[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

// A refusal of the server in the page's language: words.LANGUAGE.json has it with {1}, {2} in place of its values.
export function hear(message) {
  if (words[message]) return words[message];
  for (const [text, said] of Object.entries(words).filter(([text]) => text.includes("{1}"))) {
    const values = message.match(new RegExp(`^${text.split(/\{\d\}/).map(literal).join("(.*)")}$`));
    if (values) return said.replace(/\{(\d)\}/g, (whole, n) => values[n] ?? whole);
  }
  return message;
}
const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

// Goes on in the language in which a room was opened, where the link asked for none: a typed code has no language.
export function follow(spoken) {
  if (spoken && !LANGUAGE) location.replace(`${location.pathname}?lang=${spoken}${location.hash}`);
}

export const minutes = (n) => (n === 1 ? say("1 minute") : say("{n} minutes", { n }));
export const devices = (n) => (n === 1 ? say("1 device here") : say("{n} devices here", { n }));
