// Card of one provider: the state of the connection in words, its figures, and its controls.

import { h, replace } from "./dom.js";
import { age, clock, day } from "./format.js";
import { actionsOf, describeOutcome, describeProvider, describeRegion, describeState } from "./providers.js";

const LABELS = { connect: "Connect", poll: "Poll now", pause: "Pause", resume: "Resume", disconnect: "Disconnect…" };

/**
 * A card {element, update(connection), focus()}; `connection` is the API's object, or null without one. `act(action,
 * region)` is called for a control. Controls are rebuilt only when the state changes, so that an update does not move
 * the focus.
 */
export function connectionCard(provider, act) {
  const { name, needs, regions } = describeProvider(provider);
  const title = h("h3", { id: `connection-${provider}`, tabindex: "-1" }, name);
  const state = h("p", { class: "connection-state" });
  const facts = h("dl", { class: "facts" });
  const controls = h("div", { class: "controls" });
  const element = h("section", { class: "card connection", "aria-labelledby": title.id }, title, state, facts, controls);
  let shown = null;

  function update(connection) {
    const current = connection?.state ?? "none";
    const [words, explanation] = describeState(current);
    element.dataset.state = current;
    replace(state, h("strong", {}, words), explanation);
    replace(facts, factsOf(connection).map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))));
    if (shown === current) return;
    const hadFocus = controls.contains(document.activeElement);
    replace(controls, build(current));
    if (hadFocus && shown !== null) title.focus();
    shown = current;
  }

  function build(current) {
    const actions = actionsOf(current);
    const region = actions.includes("connect") && regions.length ? regionChoice(provider, regions) : null;
    const label = (action) => (action === "connect" && current !== "none" ? "Connect again" : LABELS[action]);
    const button = (action) =>
      h("button", {
        type: "button", class: action === "connect" ? "primary" : null, "data-action": action,
        onclick: () => act(action, region?.select.value),
      }, label(action), h("span", { class: "visually-hidden" }, ` ${name}`));
    const intro = actions.includes("connect") && needs ? h("p", { class: "muted" }, needs) : null;
    return [intro, region?.element, h("p", { class: "buttons" }, actions.map(button))];
  }

  return { element, update, focus: () => title.focus() };
}

function regionChoice(provider, regions) {
  const id = `region-${provider}`;
  const options = [["", "Usual region of this service"], ...regions];
  const select = h("select", { id }, options.map(([value, text]) => h("option", { value }, text)));
  return { select, element: h("p", { class: "region" }, h("label", { for: id }, "Region of the account"), select) };
}

function factsOf(connection) {
  if (!connection || connection.state === "connecting") return [];
  const { provider, region, worker } = connection;
  const minutes = Math.round(worker.poll_interval_seconds / 6) / 10;
  return [
    ["Newest reading", connection.newest_reading_at ? moment(connection.newest_reading_at, true) : "none yet"],
    connection.last_outcome && ["Last result", describeOutcome(connection.last_outcome)],
    connection.next_poll_at && ["Next poll", moment(connection.next_poll_at)],
    connection.backfill_done !== null && ["Past readings", backfill(connection)],
    ["Connected", moment(connection.connected_at)],
    ["Region", describeRegion(provider, region)],
    ["Polls", `at most every ${minutes} min`],
  ].filter(Boolean);
}

function backfill({ backfill_done: done }) {
  return done >= 1 ? "all read" : `${Math.floor(done * 100)} % read`;
}

function moment(text, withAge = false) {
  const at = new Date(text);
  const seconds = Math.max(0, (Date.now() - at.getTime()) / 1000);
  const passed = age(seconds);
  const ago = passed === "just now" ? passed : `${passed} ago`;
  return h("time", { datetime: text }, `${day(at)}, ${clock(at)}${withAge ? ` (${ago})` : ""}`);
}
