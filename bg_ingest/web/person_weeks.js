// The last 14 days of a person: time in ranges, profile of the day, daily strips, downloads.

import { agpChart } from "./agp.js";
import { download, getJson } from "./api.js";
import { dailyPanel } from "./daily.js";
import { h } from "./dom.js";
import { glucose, unit } from "./format.js";
import { instant } from "./person_live.js";
import { rangesPanel } from "./ranges.js";
import { browserOffset, dateAt, dayName } from "./scales.js";

const DAYS = 14;
const DAY = 86_400_000;
const FORMATS = [
  ["CSV", "text/csv", "csv"],
  ["Parquet", "application/vnd.apache.parquet", "parquet"],
];

/**
 * Section of 14 days. `update({at, known, offset})` reads the window that ends at `at`. `known` leaves out readings that
 * arrived later; `offset` is the person's offset from UTC in seconds.
 */
export function weeksSection(user, signal) {
  const path = `/api/bg/${encodeURIComponent(user)}`;
  let query = null;
  let dates = [];
  let updates = 0;
  const span = h("span", { class: "muted weeks-span" });
  const problem = h("p", { class: "notice", role: "alert", hidden: true });
  const ranges = rangesPanel();
  const agp = agpChart({ label: "Glucose profile of the day" });
  const daily = dailyPanel();
  const buttons = FORMATS.map(([name, accept, extension]) =>
    h("button", { type: "button", onclick: (event) => save(event.currentTarget, accept, extension) }, name),
  );
  const element = h(
    "section",
    { class: "weeks", "aria-labelledby": "weeks-title", "aria-busy": "true" },
    h("h2", { id: "weeks-title" }, "14 days ", span),
    problem,
    h("div", { class: "card" }, h("h3", {}, "Time in ranges"), ranges.element),
    h(
      "div",
      { class: "card" },
      h("h3", {}, "Profile of the day"),
      h("p", { class: "small muted" }, `Line: median. Dark area: half of the time (25–75 %). Light area: 90 % of the time (5–95 %). Band: ${glucose(70)}–${glucose(180)} ${unit()}.`),
      agp.element,
    ),
    h("div", { class: "card" }, h("h3", {}, "Days"), daily.element),
    h("div", { class: "downloads" }, h("span", {}, "Download these 14 days:"), ...buttons),
  );

  async function save(button, accept, extension) {
    if (!query) return;
    button.disabled = true;
    try {
      await download(`${path}?${query}&view=full`, accept, `${user}_${dates.join("_")}.${extension}`);
      problem.hidden = true;
    } catch (error) {
      showProblem(error);
    } finally {
      button.disabled = false;
    }
  }

  function showProblem(error) {
    problem.textContent = error.message;
    problem.hidden = false;
  }

  async function update({ at, known, offset }) {
    const number = (updates += 1);
    const asOf = known ? `&as_of=${encodeURIComponent(instant(at))}` : "";
    const window = `from=${encodeURIComponent(instant(at - DAYS * DAY))}&to=${encodeURIComponent(instant(at))}${asOf}`;
    const paths = ["statistics", "profile", "statistics/daily", "series"];
    const zone = offset ?? browserOffset(at);
    try {
      const [figures, profile, days, series] = await Promise.all(
        paths.map((name) => getJson(`${path}/${name}?${window}${name === "series" ? "&bin=15m" : ""}`, { signal })),
      );
      if (number !== updates) return; // a later update replaces this one
      query = window;
      dates = [dateAt(at - DAYS * DAY, zone), dateAt(at - 1, zone)];
      span.textContent = `${dayName(dates[0])} to ${dayName(dates[1])}`;
      ranges.update(figures);
      agp.update(profile);
      daily.update(days, series, zone);
      problem.hidden = true;
    } catch (error) {
      if (signal.aborted) return;
      showProblem(error);
    }
    element.setAttribute("aria-busy", "false");
  }

  return { element, update };
}
