// What is cut off, too small, or over another text on a slide: texts with what is wrong with them; called in the page.
() => {
  const [width, height] = [innerWidth, innerHeight];
  const wrong = [];
  const root = document.scrollingElement;
  if (root.scrollHeight > height || root.scrollWidth > width) wrong.push(`the page is ${root.scrollHeight} high`);
  const inside = (rect, box) => rect.left >= box.left - 1.5 && rect.right <= box.right + 1.5
    && rect.top >= box.top - 1.5 && rect.bottom <= box.bottom + 1.5;
  const clip = (node) => { // what is seen of a node's surroundings
    const box = { left: 0, top: 0, right: width, bottom: height };
    for (let up = node.parentElement; up; up = up.parentElement) {
      if (getComputedStyle(up).overflow === "visible" || up === document.documentElement) continue;
      const rect = up.getBoundingClientRect();
      box.left = Math.max(box.left, rect.left);
      box.top = Math.max(box.top, rect.top);
      box.right = Math.min(box.right, rect.right);
      box.bottom = Math.min(box.bottom, rect.bottom);
    }
    return box;
  };
  const lines = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility({ checkVisibilityCSS: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const box = clip(node);
    const rects = [...range.getClientRects()].filter((rect) => rect.width > 1.5);
    const words = text.data.trim().slice(0, 40);
    lines.push(...rects.map((rect) => [rect, words]));
    if (rects.some((rect) => !inside(rect, box))) wrong.push(`cut off: ${words}`);
    const scale = node.ownerSVGElement ? node.getScreenCTM().d || Math.abs(node.getScreenCTM().b) : 1;
    const size = Math.abs(parseFloat(getComputedStyle(node).fontSize) * scale);
    if (size < height / 45 - 0.5) wrong.push(`${size.toFixed(1)} px: ${words}`);
  }
  const shared = (low, high, from, to) => Math.min(high, to) - Math.max(low, from);
  for (const [i, [one, words]] of lines.entries()) {
    const over = lines.slice(i + 1).find(([other]) => shared(one.left, one.right, other.left, other.right) > 3
      && shared(one.top, one.bottom, other.top, other.bottom) > 0.4 * Math.min(one.height, other.height));
    if (over) wrong.push(`one over another: ${words} / ${over[1]}`);
  }
  for (const node of document.querySelectorAll(".slide :is(.tile, .qr, .map, .rulers, .bar-track, .choice)")) {
    if (!node.checkVisibility()) continue;
    const rect = node.getBoundingClientRect();
    if (!inside(rect, clip(node))) wrong.push(`cut off: ${node.getAttribute("class")}`);
    if (node.matches(".tile") && rect.width < height / 17) wrong.push(`a picture is ${rect.width.toFixed(0)} px wide`);
  }
  return [...new Set(wrong)];
}
