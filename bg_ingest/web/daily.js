// Daily strips: one row for each local day, all on one axis from 00:00 to 24:00.

import { h, replace, svg } from "./dom.js";
import { unit } from "./format.js";
import { areaPath, dayName, linear, linePath } from "./scales.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const QUARTER = 900_000;
const WIDTH = 480;
const HEIGHT = 48;
const LOWEST = 40;
const HIGHEST = 260;
const BAND = [70, 180];

/**
 * Offset from UTC in seconds at the end of the first day, from the length of its part inside the window.
 *
 * If the first day began before the window, it ends `seconds` after the start of the window, and its end is a local
 * midnight. Otherwise the answer does not determine the offset, and `fallback` is used.
 */
function firstOffset(day, from, fallback) {
  const midnight = Date.parse(`${day.date}T00:00:00Z`) + DAY;
  const offset = midnight - (from + day.seconds * 1000);
  return Math.abs(offset) <= 14 * 3_600_000 && offset % QUARTER === 0 ? offset / 1000 : fallback;
}

/** Start and end of each local day in milliseconds. A clock change alters the offset by the day's missing or added time. */
export function dayBounds(days, from, to, fallback) {
  let offset = days.length ? firstOffset(days[0], from, fallback) : fallback;
  return days.map((day, i) => {
    const midnight = Date.parse(`${day.date}T00:00:00Z`);
    const start = midnight - offset * 1000;
    const isWhole = i > 0 && start >= from && start + day.seconds * 1000 <= to - QUARTER;
    if (isWhole) offset += DAY / 1000 - day.seconds;
    return { start, end: midnight + DAY - offset * 1000 };
  });
}

/** Bins of the series with readings inside a day, in runs without an empty bin. */
function runsOf(series, { start, end }) {
  const runs = [[]];
  series.t.forEach((second, i) => {
    const t = second * 1000;
    if (t < start || t >= end) return;
    if (series.n[i]) runs.at(-1).push({ t: t + series.bin_seconds * 500, low: series.min[i], mean: series.mean[i], high: series.max[i] });
    else if (runs.at(-1).length) runs.push([]);
  });
  return runs.filter((run) => run.length);
}

function strip(series, bounds) {
  const x = linear(bounds.start, bounds.end, 0, WIDTH);
  const y = (value) => linear(LOWEST, HIGHEST, HEIGHT - 1, 1)(Math.min(Math.max(value, LOWEST), HIGHEST));
  // Clocks change at night: the hours of the day are counted from its end, so that they are right on those days too.
  const hours = [6, 12, 18].map((hour) => {
    const at = x(bounds.end - (24 - hour) * HOUR);
    return svg("line", { class: "chart-grid", x1: at, x2: at, y1: 0, y2: HEIGHT });
  });
  const lines = runsOf(series, bounds).flatMap((run) => [
    svg("path", { class: "strip-area", d: areaPath(run.map(({ t, high }) => [x(t), y(high)]), run.map(({ t, low }) => [x(t), y(low)])) }),
    svg("path", { class: "strip-line", d: linePath(run.map(({ t, mean }) => [x(t), y(mean)])) }),
  ]);
  const outside = runsOf(series, bounds).flatMap((run) =>
    run.flatMap(({ t, low, high }) => [
      ...(low < BAND[0] ? [svg("circle", { class: "range-low", cx: x(t), cy: y(low), r: 2 })] : []),
      ...(high > BAND[1] ? [svg("circle", { class: "range-high", cx: x(t), cy: y(high), r: 2 })] : []),
    ]),
  );
  return svg(
    "svg",
    { class: "strip", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "chart-band", x: 0, y: y(BAND[1]), width: WIDTH, height: y(BAND[0]) - y(BAND[1]) }),
    ...hours,
    ...lines,
    ...outside,
  );
}

function meanText({ mean_mg_dl: mgdl, mean_mmol_l: mmol }) {
  if (mgdl === null) return "–";
  return unit() === "mg/dL" ? mgdl.toFixed(0) : mmol.toFixed(1);
}

function share(day, ...names) {
  if (!day.time_percent) return "–";
  return `${names.reduce((sum, name) => sum + day.time_percent[name], 0).toFixed(1)} %`;
}

function dayRow(day, series, bounds) {
  // Narrow screens have no heads of columns: there the name stands before the number.
  const cell = (name, text) => h("td", { class: "number-cell", "data-name": name, role: "cell" }, text);
  return h(
    "tr",
    { role: "row" },
    h("th", { scope: "row", role: "rowheader" }, dayName(day.date)),
    h("td", { class: "strip-cell", role: "cell" }, strip(series, bounds)),
    cell("In range", share(day, "in_range")),
    cell("Low", share(day, "very_low", "low")),
    cell("High", share(day, "high", "very_high")),
    cell("Mean", meanText(day)),
    cell("Active", `${day.active_percent.toFixed(0)} %`),
  );
}

/** Panel of daily strips. `update` takes the answers of `GET statistics/daily` and `GET series`. */
export function dailyPanel() {
  const element = h("div", { class: "daily" });

  function update(daily, series, fallbackOffset) {
    const bounds = dayBounds(daily.days, Date.parse(daily.from), Date.parse(daily.to), fallbackOffset);
    const rows = daily.days.map((day, i) => dayRow(day, series, bounds[i])).toReversed();
    const heads = ["Day", "00:00 to 24:00", "In range", "Low", "High", `Mean, ${unit()}`, "Active"];
    const table = h(
      "table",
      { class: "daily-table", role: "table" },
      h("caption", { class: "visually-hidden" }, "Local days, newest first"),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads.map((name) => h("th", { scope: "col", role: "columnheader" }, name)))),
      h("tbody", { role: "rowgroup" }, ...rows),
    );
    replace(element, rows.length ? table : h("p", { class: "muted" }, "No day has readings."));
  }

  return { element, update };
}
