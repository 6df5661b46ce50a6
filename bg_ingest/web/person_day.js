// The last hours of a person as a chart: 3, 6, 12 or 24 hours.

import { lineChart } from "./chart.js";
import { h } from "./dom.js";
import { arrow, glucose, unit } from "./format.js";
import { browserOffset, offsetName, rangeOf } from "./scales.js";

const HOURS = [3, 6, 12, 24];
const HOUR = 3_600_000;
const BAND = [70, 180];

function pointOf(reading) {
  const { words } = arrow(reading.trend);
  return {
    t: Date.parse(reading.timestamp),
    value: reading.glucose_mg_dl,
    flag: reading.flag,
    text: glucose(reading.glucose_mg_dl, reading.flag),
    words: [rangeOf(reading.glucose_mg_dl).words, words].filter(Boolean).join(", "),
    offset: reading.utc_offset_seconds ?? undefined,
    series: `${reading.provider} ${reading.sensor ?? ""}`,
  };
}

function gapOf({ from, to, cause }) {
  return { from: Date.parse(from), to: to && Date.parse(to), cause };
}

/** Section of the last hours. `update` takes the readings, the gaps and the end of the chart. */
export function daySection({ hours, onHours }) {
  let chosen = HOURS.includes(hours) ? hours : 24;
  let shown = { readings: [], gaps: [], end: Date.now() };
  const chart = lineChart({ label: "Glucose of the last hours", points: [], gaps: [], range: [0, 1], band: BAND });
  const zone = h("p", { class: "small muted day-zone" });
  const options = HOURS.map((count) =>
    h(
      "label",
      {},
      h("input", { type: "radio", name: "hours", value: count, checked: count === chosen, onchange: () => choose(count) }),
      h("span", {}, `${count} h`),
    ),
  );
  const element = h(
    "section",
    { class: "day card", "aria-label": "Last hours" },
    h("fieldset", { class: "hours" }, h("legend", { class: "visually-hidden" }, "Hours shown"), ...options),
    chart.element,
    zone,
  );

  function choose(count) {
    chosen = count;
    onHours(count);
    redraw();
  }

  function redraw() {
    const { readings, gaps, end } = shown;
    chart.update(readings.map(pointOf), gaps.map(gapOf), [end - chosen * HOUR, end]);
    const offset = readings.at(-1)?.utc_offset_seconds ?? browserOffset(end);
    zone.textContent = `Local time of the person (${offsetName(offset)}). Hatched: no readings, with the cause. Band: target ${glucose(BAND[0])}–${glucose(BAND[1])} ${unit()}.`;
  }

  function update(readings, gaps, end) {
    shown = { readings, gaps, end };
    redraw();
  }

  return { element, update };
}
