// The reveal: pictures are turned over one after another, then the bars and the truth come. With reduced motion, or at
// the speed "at once", everything is there from the beginning.
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// `pace`: milliseconds from one picture to the next; 0 for all at once. Tiles of the same place in two sets turn
// together, for they began from the same noise.
export function turnOver(node, pace) {
  const groups = [...node.querySelectorAll(".turning .tiles")];
  if (!groups.length || !pace || still()) return;
  const most = Math.max(...groups.map((group) => group.children.length));
  const late = node.querySelectorAll(".bars, .figures, .guess, .truth");
  for (const part of late) part.classList.add("pending");
  for (const group of groups) for (const tile of group.children) tile.classList.add("down");
  let next = 0;
  const turn = () => {
    if (!node.isConnected) return;
    for (const group of groups) group.children[next]?.classList.remove("down");
    next += 1;
    if (next < most) return void setTimeout(turn, pace);
    for (const part of late) part.classList.remove("pending");
  };
  setTimeout(turn, pace);
}
