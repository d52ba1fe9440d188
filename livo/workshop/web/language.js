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

export const say = (text) => words[text] ?? text;
