// Time in ranges as a stacked bar with numbers, and the figures beside it.

import { h, replace } from "./dom.js";
import { unit } from "./format.js";

const DAY_MINUTES = 1440;
const SUFFICIENT_DAYS = 14;
const SUFFICIENT_ACTIVE = 70;
const STABLE_CV = 36;
/** Usual goals of the mean: the values that belong to a GMI of 7 %. */
const MEAN_GOALS = { "mg/dL": "154", "mmol/L": "8.6" };

/**
 * Ranges from the highest to the lowest: name, words, bounds in mg/dL and mmol/L, usual goal, all by Battelino 2019,
 * 10.2337/dci19-0028. The bounds in mmol/L are those of the consensus: 181 mg/dL alone would be rounded to 10.0.
 */
const RANGES = [
  ["very_high", "Very high", ["above 250", "above 13.9"], "below 5 %"],
  ["high", "High", ["181–250", "10.1–13.9"], "with very high below 25 %"],
  ["in_range", "In range", ["70–180", "3.9–10.0"], "above 70 %"],
  ["low", "Low", ["54–69", "3.0–3.8"], "with very low below 4 %"],
  ["very_low", "Very low", ["below 54", "below 3.0"], "below 1 %"],
];

function percent(value, digits = 1) {
  return value === null || value === undefined ? "–" : `${value.toFixed(digits)} %`;
}

function perDay(share) {
  const minutes = Math.round((share / 100) * DAY_MINUTES);
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${minutes} min`;
}

/** Mean in the reader's unit, rounded once. */
function meanText({ mean_mg_dl: mgdl, mean_mmol_l: mmol }) {
  if (mgdl === null) return "–";
  return unit() === "mg/dL" ? mgdl.toFixed(0) : mmol.toFixed(1);
}

/** Sentence on a window whose figures are not representative; null if they are. */
export function sufficiency({ sufficient, days, active_percent: active, readings }) {
  if (sufficient) return null;
  if (!readings) return "There are no readings in this time, so there are no figures.";
  const reasons = [];
  if (days < SUFFICIENT_DAYS) reasons.push(`the time has ${days} days, and ${SUFFICIENT_DAYS} are needed`);
  if (active < SUFFICIENT_ACTIVE) {
    reasons.push(`readings cover ${percent(active)} of the time, and ${SUFFICIENT_ACTIVE} % are needed`);
  }
  return `These figures may not represent the usual days: ${reasons.join("; ")}.`;
}

function bar(percents) {
  const parts = RANGES.toReversed().map(([name]) => {
    const share = percents?.[name] ?? 0;
    const part = h("span", { class: `bar-part fill-${name}` }, share >= 8 ? h("span", {}, `${Math.round(share)} %`) : "");
    part.style.flexGrow = String(share);
    part.hidden = share === 0;
    return part;
  });
  return h("div", { class: "range-bar", "aria-hidden": "true" }, ...parts);
}

function rangeTable(percents) {
  const cell = (name, text) => h("td", { class: name, role: "cell" }, text);
  const rows = RANGES.map(([name, words, bounds, goal]) =>
    h(
      "tr",
      { class: `range-row-${name}`, role: "row" },
      h("th", { scope: "row", role: "rowheader" }, h("span", { class: `swatch fill-${name}`, "aria-hidden": "true" }), words),
      cell("range-bounds", bounds[unit() === "mg/dL" ? 0 : 1]),
      cell("range-percent", percent(percents?.[name])),
      cell("range-day", percents ? perDay(percents[name]) : "–"),
      cell("range-goal muted", goal),
    ),
  );
  const heads = ["Range", `Values, ${unit()}`, "Share", "A day", "Usual goal"].map((name) =>
    h("th", { scope: "col", role: "columnheader" }, name),
  );
  // Roles are explicit, because narrow screens show the rows as blocks.
  return h(
    "table",
    { class: "range-table", role: "table" },
    h("caption", { class: "visually-hidden" }, "Time in ranges"),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)),
    h("tbody", { role: "rowgroup" }, ...rows),
  );
}

function figure(name, value, words) {
  return h("div", { class: "figure" }, h("dt", {}, name), h("dd", {}, h("strong", {}, value), h("span", { class: "muted" }, words)));
}

function figureList(answer) {
  const { gmi_percent: gmi, gmi_mmol_mol: gmiMolar, cv_percent: cv, active_percent: active, days, readings } = answer;
  return h(
    "dl",
    { class: "figures" },
    figure("Mean", `${meanText(answer)} ${unit()}`, `usual goal: below ${MEAN_GOALS[unit()]}; ${readings.toLocaleString("en")} readings`),
    figure("GMI", percent(gmi), gmi === null ? "" : `usual goal: below 7 %; ${gmiMolar.toFixed(0)} mmol/mol, an estimate from the mean`),
    figure("Variation (CV)", percent(cv), cv === null ? "" : cv <= STABLE_CV ? "stable: at most 36 %" : "variable: above 36 %"),
    figure("Active time", percent(active), `of ${days.toFixed(0)} days`),
  );
}

/** Panel of a window. `update` takes the answer of `GET statistics`. */
export function rangesPanel() {
  const element = h("div", { class: "ranges" });

  function update(answer) {
    const percents = answer.time_percent;
    const sentence = sufficiency(answer);
    const inRange = percents?.in_range;
    replace(
      element,
      h("p", { class: "ranges-headline" }, percents ? `In range ${percent(inRange)} of the time, ${perDay(inRange)} a day.` : ""),
      sentence ? h("p", { class: "notice" }, sentence) : "",
      bar(percents),
      rangeTable(percents),
      figureList(answer),
    );
  }

  return { element, update };
}
