// The figures that change while a learner moves something. tests/browser holds them against livo/measures/metrics.py
// and livo/measures/bootstrap.py.

const sum = (values) => values.reduce((a, b) => a + b, 0);

// Largest share minus smallest; null of no pictures.
export function d1(counts) {
  const n = sum(counts);
  return n ? (Math.max(...counts) - Math.min(...counts)) / n : null;
}

// Distance of the shares from equal ones; null of no pictures.
export function d2(counts) {
  const n = sum(counts);
  return n ? Math.sqrt(sum(counts.map((count) => (count / n - 1 / counts.length) ** 2))) : null;
}

// 95 % Wilson interval of a share.
export function wilson(count, n) {
  const z = 1.959963984540054;
  const ratio = count / n;
  const centre = ratio + (z * z) / (2 * n);
  const reach = z * Math.sqrt((ratio * (1 - ratio)) / n + (z * z) / (4 * n * n));
  const scale = 1 + (z * z) / n;
  return [count === 0 ? 0 : (centre - reach) / scale, count === n ? 1 : (centre + reach) / scale];
}

// The true share of a group behind a reported one: Rogan and Gladen. `missed` of the group are reported as the other,
// `false_` of the other as the group. Null where the judge says the same whatever it sees.
export function corrected(reported, missed, false_) {
  const slope = 1 - missed - false_;
  if (slope < 0.02) return null;
  return Math.min(1, Math.max(0, (reported - false_) / slope));
}
