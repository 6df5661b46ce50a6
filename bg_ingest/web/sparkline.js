// Small chart of the last three hours: a target band, a line that breaks at gaps, and a dot at the newest reading.
import { svg } from "./dom.js";

export const SPARKLINE_HOURS = 3;
const WIDTH = 240;
const HEIGHT = 56;
const LOWEST = 40;
const HIGHEST = 300;
// Room for half of the line and of the dot.
const MARGIN = 4;
const BAND = [70, 180];
// Longest distance that is drawn as a line. Sensors report every 5 or every 15 minutes.
const BREAK_MILLISECONDS = 16 * 60_000;
const SPAN = SPARKLINE_HOURS * 3_600_000;

function toY(value) {
  const clipped = Math.min(HIGHEST, Math.max(LOWEST, value));
  const share = (HIGHEST - clipped) / (HIGHEST - LOWEST);
  return Math.round(10 * (MARGIN + share * (HEIGHT - 2 * MARGIN))) / 10;
}

function toPath(points, from) {
  let path = "";
  let previous = -Infinity;
  for (const { t, value } of points) {
    const x = Math.round((10 * WIDTH * (t - from)) / SPAN) / 10;
    // A line of length 0 with round caps draws an isolated reading as a dot.
    path += t - previous > BREAK_MILLISECONDS ? `M${x} ${toY(value)}h0` : `L${x} ${toY(value)}`;
    previous = t;
  }
  return path;
}

/** Return `{element, update(points, now, describe)}`; points ascend and have `t` (ms) and `value` (mg/dL). */
export function sparkline() {
  const line = svg("path", { class: "sparkline-line", d: "" });
  const dot = svg("circle", { class: "sparkline-dot", r: 3.5, cx: -10, cy: 0 });
  const band = svg("rect", {
    class: "sparkline-band",
    x: 0,
    y: toY(BAND[1]),
    width: WIDTH,
    height: toY(BAND[0]) - toY(BAND[1]),
  });
  const element = svg("svg", { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, band, line, dot);

  function update(points, now, describe) {
    const from = now - SPAN;
    const shown = points.filter((point) => point.t >= from && point.t <= now + 60_000);
    line.setAttribute("d", toPath(shown, from));
    const newest = shown.at(-1);
    dot.setAttribute("cx", newest ? Math.min(WIDTH - MARGIN, (WIDTH * (newest.t - from)) / SPAN) : -10);
    dot.setAttribute("cy", newest ? toY(newest.value) : 0);
    const values = shown.map((point) => point.value);
    const text = newest
      ? `Last 3 hours: ${values.length} readings, ${describe(Math.min(...values))} to ${describe(Math.max(...values))}.`
      : "Last 3 hours: no readings.";
    if (element.getAttribute("aria-label") !== text) element.setAttribute("aria-label", text);
  }

  return { element, update };
}
