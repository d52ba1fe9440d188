// A countdown: seconds that are left, told every quarter of a second; null where none runs.
export function countdown(tell) {
  let end = null;
  let timer = 0;
  let told;
  const turn = () => {
    const left = end === null ? null : Math.max(0, Math.ceil((end - performance.now()) / 1000));
    if (left !== told) tell(left);
    told = left;
  };
  return {
    // `left`: seconds as the server says them, or null.
    set(left) {
      end = left === null ? null : performance.now() + 1000 * left;
      clearInterval(timer);
      if (end !== null) timer = setInterval(turn, 250);
      told = undefined;
      turn();
    },
  };
}
