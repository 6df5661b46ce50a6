// Values, times and states as text for people.

const UNIT = "bg-ingest-unit";
const UNITS = ["mg/dL", "mmol/L"];
const MG_DL_PER_MMOL_L = 18.01559;

const TRENDS = {
  double_up: ["⇈", "rising fast"],
  single_up: ["↑", "rising"],
  forty_five_up: ["↗", "rising slowly"],
  flat: ["→", "steady"],
  forty_five_down: ["↘", "falling slowly"],
  single_down: ["↓", "falling"],
  double_down: ["⇊", "falling fast"],
};

/** The unit of the reader: "mg/dL" or "mmol/L". */
export function unit() {
  const stored = localStorage.getItem(UNIT);
  return UNITS.includes(stored) ? stored : UNITS[0];
}

export function setUnit(name) {
  localStorage.setItem(UNIT, UNITS.includes(name) ? name : UNITS[0]);
}

/** A value in the reader's unit, without the unit; LOW and HIGH beyond the range of the sensor. */
export function glucose(mgdl, flag = "ok") {
  if (mgdl === null || mgdl === undefined) return "–";
  if (flag === "low" || flag === "high") return flag.toUpperCase();
  return unit() === "mg/dL" ? String(Math.round(mgdl)) : (mgdl / MG_DL_PER_MMOL_L).toFixed(1);
}

export function age(seconds) {
  if (seconds < 60) return "just now";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 && hours < 6 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

/** The symbol of a trend and its meaning in words. */
export function arrow(trend) {
  const [symbol, words] = TRENDS[toSnakeCase(trend)] ?? ["", ""];
  return { symbol, words };
}

function toSnakeCase(trend) {
  return (trend ?? "").replace(/([a-z])([A-Z])/g, "$1_$2").toLowerCase();
}

/** Hours and minutes of the browser's time zone. */
export function clock(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** The date in the browser's time zone, such as "Sat 26 Apr". */
export function day(date) {
  return date.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" });
}

/** The time of a reading on the clock of its person: {clock, day}; by the browser's zone if the offset is unknown. */
export function localTime(reading) {
  const at = new Date(reading.measured_at ?? reading.timestamp);
  const offset = reading.utc_offset_seconds;
  const date = new Date(at.getTime() + 1000 * (offset ?? -60 * at.getTimezoneOffset()));
  const options = { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" };
  return { clock: `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`, day: date.toLocaleDateString("en-GB", options) };
}

function two(number) {
  return String(number).padStart(2, "0");
}
