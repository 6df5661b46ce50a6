// Panel of one person in the list: value, arrow, age, state in words, sparkline, and the requests behind it.
import { toCurl } from "./api.js";
import { copyButton } from "./copy.js";
import { h } from "./dom.js";
import { arrow, glucose, unit } from "./format.js";
import { STATE_WORDS, ago, flagOf, rangeOf } from "./people_state.js";
import { userHash } from "./session.js";
import { sparkline } from "./sparkline.js";

const RANGE_WORDS = {
  "very-low": "very low",
  low: "low",
  "in-range": "in range",
  high: "high",
  "very-high": "very high",
};

/** Change a text only if it differs, so that an unchanged panel costs no layout. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return the requests whose answers the panel shows. `rangePath` is the path of the sparkline's request. */
function requestsOf(person, rangePath) {
  return [
    ["Newest reading", { method: "GET", path: `/api/latest?users=${encodeURIComponent(person.id)}&view=full` }],
    ["Last 3 hours", { method: "GET", path: rangePath }],
    ["Changes since", { method: "POST", path: "/api/changes", body: { after: { [person.id]: person.change } } }],
  ];
}

function requestList(person, rangePath) {
  return requestsOf(person, rangePath).map(([name, request]) => {
    const code = h("code", {}, toCurl(request));
    const copy = copyButton(code, `Copy as curl: ${name} of ${person.id}`);
    return h("div", { class: "request" }, h("p", {}, name), h("pre", {}, code), copy);
  });
}

export class Panel {
  /** `rangePath` returns the path of the sparkline's request. */
  constructor(person, rangePath) {
    this.person = person;
    this.value = h("span", { class: "panel-value" }, "—");
    this.unit = h("span", { class: "panel-unit" });
    this.arrow = h("span", { class: "panel-arrow", "aria-hidden": "true" });
    this.trend = h("span", { class: "visually-hidden" });
    this.range = h("span", { class: "panel-range" });
    this.age = h("span", { class: "panel-age" });
    this.state = h("span", {});
    this.chart = sparkline();
    const owner = h("span", { class: "visually-hidden" }, ` of ${person.id}`);
    const requests = h("div", { class: "requests" });
    const details = h("details", { class: "panel-request" }, h("summary", {}, "Request", owner), requests);
    details.addEventListener("toggle", () => {
      if (details.open) requests.replaceChildren(...requestList(person, rangePath()));
    });
    const link = h("a", { href: userHash(person.id) }, person.id);
    const head = h("div", { class: "panel-head" }, h("h2", {}, link), this.age);
    const reading = h("p", { class: "panel-reading" }, this.value, this.unit, this.arrow, this.trend);
    const state = h("p", { class: "panel-state" }, this.range, this.state);
    this.element = h("li", { class: "panel", "data-user": person.id }, head, reading, state, this.chart.element, details);
  }

  /** Show the person as of `now` (ms, the service's clock). */
  update(now) {
    const { latest } = this.person;
    const state = this.person.state(now);
    const range = latest ? rangeOf(latest.glucose_mg_dl) : "none";
    const direction = latest ? arrow(latest.trend) : { symbol: "", words: "" };
    setText(this.value, latest ? glucose(latest.glucose_mg_dl, latest.flag) : "—");
    setText(this.unit, latest ? unit() : "");
    setText(this.arrow, direction.symbol);
    setText(this.trend, latest ? direction.words : "");
    // The range of an old value is left out, because it does not describe the present.
    setText(this.range, latest && state === "live" ? `${RANGE_WORDS[range]}, ` : "");
    setText(this.state, STATE_WORDS[state] ?? state.replaceAll("_", " "));
    setText(this.age, latest ? ago((now - Date.parse(latest.measured_at)) / 1000) : "");
    this.element.dataset.range = range;
    this.element.dataset.state = state;
    this.chart.update(this.person.recentPoints(now), now, (value) => glucose(value, flagOf(value)));
  }
}
