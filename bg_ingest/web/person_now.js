// Newest value of a person: value, arrow, age and state in words.

import { h } from "./dom.js";
import { age, arrow, glucose, unit } from "./format.js";
import { clockAt, dateAt, dayName, rangeOf, browserOffset } from "./scales.js";

/** Symbol, word and sentence of each state. Colour only repeats the words. */
const STATES = {
  live: ["●", "Live", () => "Readings arrive as expected."],
  late: ["◐", "Late", () => "The next reading is overdue."],
  gap: ["○", "No readings", (since) => `No reading has arrived since ${since}.`],
  reauthorization_required: ["!", "Sign-in required", () => "The provider asks for a new sign-in."],
  action_required: ["!", "Action required", () => "The provider asks for an action by the person."],
  paused: ["‖", "Paused", () => "New readings are not requested."],
  as_of: ["◷", "Earlier", (since) => `The newest reading of that time is of ${since}.`],
};

const STREAM_WORDS = {
  connecting: "Connecting to live updates…",
  live: "Live updates.",
  reconnecting: "Reconnecting to live updates…",
  ended: "Live updates have ended:",
};

/** State at an instant: `late_at` and `gap_at` are the times of the next states if no reading arrives. */
export function stateAt(latest, now) {
  if (latest.state === "live" && latest.late_at && now >= Date.parse(latest.late_at)) {
    return latest.gap_at && now >= Date.parse(latest.gap_at) ? "gap" : "late";
  }
  return latest.state === "late" && latest.gap_at && now >= Date.parse(latest.gap_at) ? "gap" : latest.state;
}

/** Local time of a reading, with its day unless it is the same as that of `now`. */
function timeOf(reading, now) {
  const at = Date.parse(reading.timestamp);
  const offset = reading.utc_offset_seconds ?? browserOffset(at);
  const date = dateAt(at, offset);
  return date === dateAt(now, offset) ? clockAt(at, offset) : `${dayName(date)}, ${clockAt(at, offset)}`;
}

/** Set a text only if it differs, so that a live region does not repeat it. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Card of the newest value. `show` takes latest with `view=full`, `tick` counts the age. */
export function nowCard() {
  let latest = null;
  const value = h("span", { class: "now-value" }, "–");
  const symbol = h("span", { class: "now-arrow", "aria-hidden": "true" });
  const trend = h("span", { class: "now-trend" });
  const range = h("span", { class: "now-range" });
  const time = h("span", { class: "now-time" });
  const ago = h("span", { class: "now-age" });
  const mark = h("span", { class: "state-mark", "aria-hidden": "true" });
  const word = h("strong", {});
  const sentence = h("span", {});
  const stream = h("span", { class: "muted now-stream", role: "status" });
  const element = h(
    "div",
    { class: "now card" },
    h("p", { class: "now-main" }, value, symbol),
    h("p", { class: "now-words" }, h("span", { class: "muted" }, unit()), range, trend),
    h("p", { class: "now-when" }, time, ago),
    h("p", { class: "now-state", role: "status" }, mark, word, " ", sentence),
    h("p", { class: "now-updates" }, stream),
  );

  function tick(now) {
    if (!latest) return;
    const state = stateAt(latest, now);
    const [sign, name, words] = STATES[state] ?? ["", state, () => ""];
    const at = Date.parse(latest.timestamp);
    const passed = age(Math.max(0, (now - at) / 1000));
    setText(ago, passed === "just now" ? passed : `${passed} ago`);
    element.setAttribute("data-state", state);
    setText(mark, sign);
    setText(word, name);
    setText(sentence, words(timeOf(latest, now)));
  }

  function show(reading, now) {
    latest = reading;
    const { symbol: sign, words } = arrow(reading.trend);
    const inside = rangeOf(reading.glucose_mg_dl);
    setText(value, glucose(reading.glucose_mg_dl, reading.flag));
    setText(symbol, sign);
    setText(range, inside.words);
    setText(trend, words);
    setText(time, timeOf(reading, now));
    element.setAttribute("data-range", inside.name);
    tick(now);
  }

  /** Show the state of the stream: the service can be out of reach while the person's readings are not. */
  function streamState(state, reason) {
    setText(stream, state === "ended" ? `${STREAM_WORDS.ended} ${reason}.` : (STREAM_WORDS[state] ?? ""));
  }

  function empty(text) {
    latest = null;
    for (const node of [symbol, range, trend, time, ago, mark, word]) setText(node, "");
    setText(value, "–");
    setText(sentence, text);
    element.removeAttribute("data-range");
    element.setAttribute("data-state", "none");
  }

  return { element, show, tick, streamState, empty };
}
