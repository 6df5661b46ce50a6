// Geometry and local times of the charts.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY_NAMES = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Bounds of the ranges in mg/dL: the first value of each, ascending. */
export const RANGE_NAMES = [
  [0, "very_low", "very low"],
  [54, "low", "low"],
  [70, "in_range", "in range"],
  [181, "high", "high"],
  [251, "very_high", "very high"],
];

/** Name and words of the range that contains a value. */
export function rangeOf(mgdl) {
  const [, name, words] = RANGE_NAMES.findLast(([first]) => mgdl >= first);
  return { name, words };
}

/** Linear scale from the interval [d0, d1] to the interval [r0, r1]. */
export function linear(d0, d1, r0, r1) {
  const factor = (r1 - r0) / (d1 - d0 || 1);
  return (value) => r0 + (value - d0) * factor;
}

/** Top of the value axis: 250, or the multiple of 50 above the highest value. */
export function axisTop(values) {
  return values.reduce((top, value) => Math.max(top, Math.ceil((value + 5) / 50) * 50), 250);
}

/** Labelled values of the axis in mg/dL: the bounds of the ranges and the top. */
export function axisValues(top) {
  return [54, 70, 180, 250, ...(top >= 350 ? [350] : [])];
}

function shifted(ms, offsetSeconds) {
  return new Date(ms + offsetSeconds * 1000);
}

/** Offset of this browser from UTC in seconds at an instant. */
export function browserOffset(ms) {
  return -new Date(ms).getTimezoneOffset() * 60;
}

/** "14:05" at an offset from UTC. */
export function clockAt(ms, offsetSeconds) {
  return shifted(ms, offsetSeconds).toISOString().slice(11, 16);
}

/** "2026-11-28" at an offset from UTC. */
export function dateAt(ms, offsetSeconds) {
  return shifted(ms, offsetSeconds).toISOString().slice(0, 10);
}

/** "Sat 28 Nov" of a date such as "2026-11-28". */
export function dayName(date) {
  const day = new Date(`${date}T00:00:00Z`);
  return `${DAY_NAMES[day.getUTCDay()]} ${day.getUTCDate()} ${MONTHS[day.getUTCMonth()]}`;
}

/** "UTC+1" or "UTC−3:30". */
export function offsetName(offsetSeconds) {
  const minutes = Math.abs(offsetSeconds) / 60;
  const rest = minutes % 60 ? `:${String(minutes % 60).padStart(2, "0")}` : "";
  return offsetSeconds ? `UTC${offsetSeconds < 0 ? "−" : "+"}${Math.floor(minutes / 60)}${rest}` : "UTC";
}

/** Instants of whole local hours in a range, at most `most` of them. */
export function timeTicks([from, to], offsetSeconds, most) {
  const steps = [15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
  const step = steps.find((length) => (to - from) / length <= most) ?? 24 * HOUR;
  const offset = offsetSeconds * 1000;
  const ticks = [];
  for (let t = Math.ceil((from + offset) / step) * step - offset; t <= to; t += step) ticks.push(t);
  return ticks;
}

/** Path data of a line through points [x, y]. */
export function linePath(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** Path data of the area between an upper and a lower line. */
export function areaPath(upper, lower) {
  return upper.length ? `${linePath([...upper, ...lower.toReversed()])}Z` : "";
}
