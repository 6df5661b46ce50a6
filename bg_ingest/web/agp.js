// Ambulatory glucose profile: percentiles 5 to 95, 25 to 75 and the median by local time of day.

import { chartFrame } from "./chart_frame.js";
import { svg } from "./dom.js";
import { glucose, unit } from "./format.js";
import { areaPath, axisTop, axisValues, linear, linePath } from "./scales.js";

const LEFT = 40;
const RIGHT = 36;
const TOP = 10;
const BOTTOM = 24;
const LOWEST = 40;
const DAY_MINUTES = 1440;
const BAND = [70, 180];
/** Distance of two labels in pixels. */
const LABEL_DISTANCE = 12;
const PERCENTILES = ["p5", "p25", "p50", "p75", "p95"];

function minuteOf(time) {
  const [hours, minutes] = time.split(":").map(Number);
  return hours * 60 + minutes;
}

/** Runs of neighbouring bins with readings: an area is interrupted where a bin has none. */
function runs(bins, binMinutes) {
  const parts = [];
  for (const bin of bins) {
    const before = parts.at(-1)?.at(-1);
    if (before && bin.minute - before.minute === binMinutes) parts.at(-1).push(bin);
    else parts.push([bin]);
  }
  return parts;
}

function itemOf(bin) {
  const values = PERCENTILES.map((name) => glucose(bin[name], "ok"));
  const [p5, p25, p50, p75, p95] = values;
  return {
    key: bin.time,
    minute: bin.minute,
    value: bin.p50,
    text: `${bin.time}, median ${p50} ${unit()}, half of the time ${p25} to ${p75}, 90 % of the time ${p5} to ${p95}`,
    cells: [bin.time, ...values],
  };
}

function axisNodes(x, y, top, width, height) {
  const step = width < 480 ? 6 : 3;
  const hours = Array.from({ length: 24 / step + 1 }, (_, i) => i * step);
  const times = hours.flatMap((hour) => {
    const at = x(hour * 60);
    const text = { class: "chart-tick", x: at, y: height - 7, "text-anchor": "middle" };
    return [
      svg("line", { class: "chart-grid", x1: at, x2: at, y1: TOP, y2: height - BOTTOM }),
      svg("text", text, `${String(hour).padStart(2, "0")}:00`),
    ];
  });
  const values = axisValues(top).flatMap((value) => [
    svg("line", {
      class: BAND.includes(value) ? "chart-bound" : "chart-grid",
      x1: LEFT,
      x2: width - RIGHT,
      y1: y(value),
      y2: y(value),
    }),
    svg("text", { class: "chart-tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, glucose(value, "ok")),
  ]);
  return [...times, ...values];
}

/** Names of the percentiles at the end of their lines, from the top; one that would cover another is left out. */
function labelNodes(bin, x, y, bottom) {
  let lowest = -LABEL_DISTANCE;
  return PERCENTILES.toReversed().flatMap((name) => {
    const at = Math.min(y(bin[name]), bottom - 6);
    if (at - lowest < LABEL_DISTANCE) return [];
    lowest = at;
    return [svg("text", { class: "chart-tick", x: x + 4, y: at + 4 }, `${name.slice(1)} %`)];
  });
}

/** Chart of a profile. `update` takes the answer of `GET profile`. */
export function agpChart({ label }) {
  let bins = [];
  let binMinutes = 15;
  const columns = ["Time", "5 %", "25 %", "Median", "75 %", "95 %"];
  const frame = chartFrame({ label, className: "agp-chart", columns, draw });

  function draw(width, height) {
    const top = axisTop(bins.map(({ p95 }) => p95));
    const x = linear(0, DAY_MINUTES, LEFT, width - RIGHT);
    const y = linear(LOWEST, top, height - BOTTOM, TOP);
    const middle = (bin) => x(bin.minute + binMinutes / 2);
    const line = (run, name) => run.map((bin) => [middle(bin), y(bin[name])]);
    const parts = runs(bins, binMinutes).flatMap((run) => [
      svg("path", { class: "agp-outer", d: areaPath(line(run, "p95"), line(run, "p5")) }),
      svg("path", { class: "agp-inner", d: areaPath(line(run, "p75"), line(run, "p25")) }),
      svg("path", { class: "agp-median", d: linePath(line(run, "p50")) }),
    ]);
    const target = { class: "chart-band", x: LEFT, y: y(BAND[1]), width: width - LEFT - RIGHT, height: y(BAND[0]) - y(BAND[1]) };
    const last = bins.at(-1);
    const labels = last ? labelNodes(last, width - RIGHT, y, height - BOTTOM) : [];
    const nodes = [svg("rect", target), ...axisNodes(x, y, top, width, height), ...parts, ...labels];
    return { nodes, position: (item) => ({ x: middle(item), y: y(item.value) }) };
  }

  function update(answer) {
    binMinutes = answer.bin_minutes;
    bins = answer.profile
      .filter(({ p50 }) => p50 !== null)
      .map((bin) => ({ ...bin, minute: minuteOf(bin.time) }));
    frame.update(bins.map(itemOf));
  }

  return { element: frame.element, update };
}
