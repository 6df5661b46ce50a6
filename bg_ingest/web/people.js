// View of up to 100 people, live from one stream, the worst first.
import { h } from "./dom.js";
import { Panel } from "./people_panel.js";
import { MAX_PEOPLE, PeopleSource, listPeople } from "./people_source.js";
import { compare } from "./people_state.js";

const AGE_MILLISECONDS = 10_000;
// The order is updated once a minute at most, so that panels do not move at each value.
const REVIEW_MILLISECONDS = 60_000;
// Panels do not move for so long after the pointer moved over them.
const POINTER_MILLISECONDS = 5_000;

const FORBIDDEN =
  "This key is not valid for all users, so it cannot list them. Name the users that it may read, separated by commas.";
const MORE = `These are the first ${MAX_PEOPLE} users. Name others above, separated by commas.`;
const EMPTY = "Nobody is connected yet. Connect a person first.";

function parseNames(query) {
  const text = query.get("users") ?? "";
  return [...new Set(text.split(",").map((name) => name.trim()))].filter(Boolean);
}

function chooser(names) {
  const input = h("input", { id: "people-names", type: "text", autocomplete: "off", spellcheck: "false" });
  input.value = names.join(", ");
  const form = h(
    "form",
    { class: "people-chooser" },
    h("label", { for: "people-names" }, "Only these users"),
    input,
    h("button", { type: "submit" }, "Show"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = input.value.split(",").map((name) => name.trim()).filter(Boolean);
    const list = chosen.map(encodeURIComponent).join(",");
    location.hash = list ? `#/people?users=${list}` : "#/people";
  });
  return form;
}

/** Put the panels into the order of their people; new ones go to the end while somebody works in the list. */
function arrange(list, panels, now, isBusy) {
  const ordered = [...panels.values()];
  for (const panel of ordered) panel.person.reviewRank(now);
  if (isBusy) {
    list.append(...ordered.map((panel) => panel.element).filter((element) => !element.isConnected));
    return;
  }
  ordered.sort((first, second) => compare(first.person, second.person));
  ordered.forEach((panel, index) => {
    const there = list.children[index];
    if (there !== panel.element) list.insertBefore(panel.element, there ?? null);
  });
}

class PeopleView {
  constructor(root, names, signal) {
    this.names = names;
    this.signal = signal;
    this.panels = new Map();
    this.status = h("p", { class: "people-status", role: "status" }, "Loading…");
    this.note = h("p", { class: "people-note" });
    this.list = h("ol", { class: "people", "aria-label": "People, the worst first" });
    this.source = new PeopleSource({
      onChange: (person) => this.panels.get(person.id)?.update(this.source.now()),
      onState: (state, reason) => this.showState(state, reason),
      signal,
    });
    this.pointedAt = -Infinity;
    this.list.addEventListener("pointermove", () => {
      this.pointedAt = performance.now();
    });
    root.append(h("h1", {}, "People"), this.status, chooser(names), this.note, this.list);
  }

  showState(state, reason) {
    const count = `${this.panels.size} ${this.panels.size === 1 ? "person" : "people"}`;
    const texts = { live: `Live: ${count}`, reconnecting: `Reconnecting: ${count}, last values shown` };
    this.status.textContent = texts[state] ?? `The stream has ended${reason ? `: ${reason}` : ""}. Load the page again.`;
    this.status.dataset.state = state;
  }

  /** Read the list, and follow those who are new in it. */
  async load() {
    const { rows, more } = await listPeople(this.names, this.signal);
    const free = rows.filter((row) => !this.panels.has(row.user_id)).slice(0, MAX_PEOPLE - this.panels.size);
    this.note.textContent = more ? MORE : "";
    for (const person of await this.source.follow(free)) {
      const panel = new Panel(person, () => this.source.rangePath(person.id));
      this.panels.set(person.id, panel);
      panel.update(this.source.now());
    }
    if (this.panels.size === 0) this.status.textContent = EMPTY;
    arrange(this.list, this.panels, this.source.now(), this.isBusy());
  }

  isBusy() {
    const isPointed = performance.now() - this.pointedAt < POINTER_MILLISECONDS;
    return isPointed || this.list.contains(document.activeElement);
  }

  updateAll() {
    const now = this.source.now();
    for (const panel of this.panels.values()) panel.update(now);
  }

  repeat(task, milliseconds) {
    const timer = setInterval(() => document.hidden || task(), milliseconds);
    this.signal.addEventListener("abort", () => clearInterval(timer));
  }
}

export async function render(root, { query, signal }) {
  const view = new PeopleView(root, parseNames(query), signal);
  try {
    await view.load();
  } catch (error) {
    if (error.status !== 403) throw error;
    view.status.textContent = "No list of users.";
    view.note.textContent = FORBIDDEN;
  }
  if (signal.aborted) return;
  view.repeat(() => view.updateAll(), AGE_MILLISECONDS);
  view.repeat(() => view.load().catch(() => {}), REVIEW_MILLISECONDS);
  document.addEventListener("visibilitychange", () => document.hidden || view.updateAll(), { signal });
}
