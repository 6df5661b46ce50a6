// Line chart of readings: target band, gaps with their cause, LOW and HIGH as marks at the edge.

import { chartFrame } from "./chart_frame.js";
import { svg } from "./dom.js";
import { glucose, unit } from "./format.js";
import { axisTop, axisValues, browserOffset, clockAt, linear, linePath, rangeOf, timeTicks } from "./scales.js";

const LEFT = 40;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;
const LOWEST = 40;
/** Half of the width of a time label in pixels, so that the last label is not cut. */
const LABEL_HALF = 18;
/** A line is interrupted where the time between two readings exceeds this multiple of the usual interval. */
const INTERRUPTION = 1.9;
let patterns = 0;

const CAUSES = {
  provider_has_nothing: "the provider has none",
  sensor_warm_up: "sensor warm-up",
  provider_failing: "the provider did not answer",
  throttled: "the provider limited the calls",
  provider_forbidden: "the provider forbade the app",
  reauthorization_required: "a new sign-in is required",
  service_down: "the service did not poll",
};

/** Cause of a gap in words. */
export function causeWords(cause) {
  return CAUSES[cause] ?? String(cause).replaceAll("_", " ");
}

function offsetOf(points, ms) {
  return points.at(-1)?.offset ?? browserOffset(ms);
}

function inRange(points, gaps, [from, to]) {
  return {
    points: points.filter(({ t }) => t >= from && t <= to),
    gaps: gaps.map((gap) => ({ ...gap, to: gap.to ?? to })).filter((gap) => gap.to > from && gap.from < to),
  };
}

/** Readings and gaps by time, as items of the frame: stops of the cursor and rows of the table. */
function itemsOf(points, gaps, offset) {
  const readings = points.map((point) => {
    const time = clockAt(point.t, point.offset ?? offset);
    const words = point.words ? `, ${point.words}` : "";
    const value = point.text ?? glucose(point.value, point.flag);
    return {
      key: `${point.t} ${point.series ?? ""}`,
      t: point.t,
      value: point.value,
      text: `${time}, ${value} ${unit()}${words}`,
      cells: [time, value, point.words || rangeOf(point.value).words],
    };
  });
  const pauses = gaps.map(({ from, to, cause }) => {
    const span = `${clockAt(from, offset)} to ${clockAt(to, offset)}`;
    const words = `no readings: ${causeWords(cause)}`;
    return { key: `gap ${from}`, t: (from + to) / 2, value: null, text: `${span}, ${words}`, cells: [span, "–", words] };
  });
  return [...readings, ...pauses].sort((a, b) => a.t - b.t);
}

/** Runs of readings of one sensor without an interruption. */
function runs(points, gaps) {
  const series = new Map();
  for (const point of points) {
    const name = point.series ?? "";
    series.set(name, [...(series.get(name) ?? []), point]);
  }
  return [...series.values()].flatMap((line) => {
    const steps = line.slice(1).map((point, i) => point.t - line[i].t);
    const usual = steps.toSorted((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 0;
    const parts = [[]];
    line.forEach((point, i) => {
      const before = line[i - 1];
      const interrupted =
        before &&
        (point.t - before.t > usual * INTERRUPTION || gaps.some((gap) => gap.from > before.t && gap.from < point.t));
      if (interrupted) parts.push([]);
      parts.at(-1).push(point);
    });
    return parts;
  });
}

function gapNodes(gaps, range, x, height, pattern) {
  return gaps.flatMap((gap) => {
    const left = x(Math.max(gap.from, range[0]));
    const width = Math.max(x(Math.min(gap.to, range[1])) - left, 2);
    const words = causeWords(gap.cause);
    const box = svg(
      "rect",
      { class: "chart-gap", x: left, y: TOP, width, height: height - TOP - BOTTOM, fill: `url(#${pattern})` },
      svg("title", {}, `No readings: ${words}`),
    );
    const fits = width > words.length * 6.5 + 8;
    const attributes = { class: "chart-gap-label", x: left + width / 2, y: TOP + 14, "text-anchor": "middle" };
    return fits ? [box, svg("text", attributes, words)] : [box];
  });
}

function axisNodes(range, offset, x, y, top, width, height) {
  const most = Math.max(2, Math.floor((width - LEFT) / 64));
  const times = timeTicks(range, offset, most).flatMap((t) => [
    svg("line", { class: "chart-grid", x1: x(t), x2: x(t), y1: TOP, y2: height - BOTTOM }),
    svg(
      "text",
      { class: "chart-tick", x: Math.min(x(t), width - LABEL_HALF), y: height - 7, "text-anchor": "middle" },
      clockAt(t, offset),
    ),
  ]);
  const values = axisValues(top).flatMap((value) => [
    svg("line", { class: "chart-grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
    svg("text", { class: "chart-tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, glucose(value, "ok")),
  ]);
  return [...times, ...values];
}

/** Dots of readings. LOW and HIGH are triangles at the edge; of consecutive ones the first is labelled. */
function pointNodes(points, x, y, height) {
  return points.flatMap((point, i) => {
    const at = x(point.t);
    if (point.flag !== "low" && point.flag !== "high") {
      return [svg("circle", { class: `chart-dot range-${rangeOf(point.value).name}`, cx: at, cy: y(point.value), r: 2.2 })];
    }
    const low = point.flag === "low";
    const edge = low ? height - BOTTOM - 2 : TOP + 2;
    const base = edge + (low ? -8 : 8);
    const mark = svg("path", {
      class: `chart-dot range-very_${point.flag}`,
      d: `M${at - 5} ${base}L${at + 5} ${base}L${at} ${edge}Z`,
    });
    if (points[i - 1]?.flag === point.flag) return [mark];
    const label = { class: "chart-flag", x: at, y: low ? base - 4 : base + 14, "text-anchor": "middle" };
    return [mark, svg("text", label, glucose(point.value, point.flag))];
  });
}

/**
 * Line chart of readings.
 *
 * Points are `{t, value, flag, text, words, offset, series}` in ascending order of `t` (milliseconds); values are mg/dL.
 */
export function lineChart({ label, points, gaps, range, band }) {
  const pattern = `chart-hatch-${(patterns += 1)}`;
  let shown = { points: [], gaps: [] };
  let window = range;
  let offset = 0;
  const frame = chartFrame({ label, className: "line-chart", columns: ["Time", "Value", "Trend or state"], draw });

  function draw(width, height) {
    const top = axisTop(shown.points.map(({ value }) => value));
    const x = linear(window[0], window[1], LEFT, width - RIGHT);
    const y = linear(LOWEST, top, height - BOTTOM, TOP);
    const hatch = svg(
      "pattern",
      { id: pattern, width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("line", { class: "chart-hatch", x1: 0, x2: 0, y1: 0, y2: 8 }),
    );
    const target = { class: "chart-band", x: LEFT, y: y(band[1]), width: width - LEFT - RIGHT, height: y(band[0]) - y(band[1]) };
    const lines = runs(shown.points, shown.gaps).map((run) =>
      svg("path", { class: "chart-line", d: linePath(run.map((point) => [x(point.t), y(point.value)])) }),
    );
    const nodes = [
      svg("defs", {}, hatch),
      svg("rect", target),
      ...gapNodes(shown.gaps, window, x, height, pattern),
      ...axisNodes(window, offset, x, y, top, width, height),
      ...lines,
      ...pointNodes(shown.points, x, y, height),
    ];
    return { nodes, position: (item) => ({ x: x(item.t), y: item.value === null ? null : y(item.value) }) };
  }

  function update(nextPoints, nextGaps, nextRange) {
    window = nextRange;
    // The range may have no readings, while the person's offset is known from earlier ones.
    offset = offsetOf(nextPoints, nextRange[1]);
    shown = inRange(nextPoints, nextGaps, nextRange);
    frame.update(itemsOf(shown.points, shown.gaps, offset));
  }

  update(points, gaps, range);
  return { element: frame.element, update };
}
