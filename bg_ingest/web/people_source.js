// Data of the list of people: one list, one request for the newest readings, and one stream for all changes.
import { getJson, openStream } from "./api.js";
import { Person } from "./people_state.js";
import { SPARKLINE_HOURS } from "./sparkline.js";

export const MAX_PEOPLE = 100;
// The newest readings of many users may lag a second behind a change.
const REFRESH_MILLISECONDS = 1_500;
// A credential may have 8 long answers open; half of them stay free for other pages.
const PARALLEL_RANGES = 4;

/** Return the rows of the named users, else ids and last changes of the first 100 users; `more` is true if there are others. */
export async function listPeople(named, signal) {
  if (named.length) return { rows: named.slice(0, MAX_PEOPLE).map((id) => ({ user_id: id })), more: false };
  const page = await getJson(`/api/users?view=full&limit=${MAX_PEOPLE}`, { signal });
  return { rows: page.users, more: page.more };
}

export class PeopleSource {
  constructor({ onChange, onState, signal }) {
    this.onChange = onChange;
    this.onState = onState;
    this.signal = signal;
    this.people = new Map();
    this.ranges = new Map();
    this.clockOffset = 0;
    this.stream = null;
    this.dueRefreshes = new Set();
    this.timer = null;
    signal.addEventListener("abort", () => clearTimeout(this.timer));
  }

  /** Time of the service, in ms. The browser's clock may be wrong. */
  now() {
    return Date.now() + this.clockOffset;
  }

  /** Follow the users of these rows that are not followed yet; return them as people. */
  async follow(rows) {
    const ids = rows.map((row) => row.user_id).filter((id) => !this.people.has(id));
    if (ids.length === 0) return [];
    for (const row of rows) if (ids.includes(row.user_id)) this.add(row);
    try {
      await this.refresh(ids);
    } catch (error) {
      for (const id of ids) this.people.delete(id);
      throw error;
    }
    this.open();
    void this.readRanges(ids);
    return ids.map((id) => this.people.get(id));
  }

  add({ user_id: id, change }) {
    this.people.set(id, new Person(id, change));
  }

  open() {
    this.stream?.abort();
    this.stream = new AbortController();
    const signal = AbortSignal.any([this.signal, this.stream.signal]);
    const after = Object.fromEntries([...this.people].map(([id, person]) => [id, person.change]));
    openStream(
      { path: "/api/changes", body: { after } },
      { onEvent: (event) => this.take(event), onState: this.onState, signal },
    );
  }

  /** Take an event. `data` is the state of a person (snapshot), or a CloudEvent whose own `data` is the change. */
  take({ type, data }) {
    const { user_id: id, change, readings } = data.data ?? data;
    const person = this.people.get(id);
    if (!person) return;
    if (change !== undefined) person.change = change;
    if (type === "snapshot") {
      this.takeLatest(person, data.latest);
      if (data.missed) void this.readRanges([id]);
    } else if (type === "unknown") {
      person.missing = "unknown";
    } else if (type === "bg.user.erased.v1") {
      Object.assign(person, { latest: null, missing: "erased", points: new Map() });
    } else {
      // A revised value may be an older one, and several devices are merged by the API alone.
      const complete = !readings || person.addReadings(readings);
      if (!complete || type === "bg.readings.revised.v1") void this.readRanges([id]);
      this.refreshSoon(id);
    }
    this.onChange(person);
  }

  takeLatest(person, latest) {
    if (latest?.age_seconds > 0) {
      this.clockOffset = Date.parse(latest.measured_at) + latest.age_seconds * 1000 - Date.now();
    }
    return person.setLatest(latest);
  }

  /** The event has the value; only the API has the state. Changes within a short time share one request. */
  refreshSoon(id) {
    this.dueRefreshes.add(id);
    this.timer ??= setTimeout(async () => {
      this.timer = null;
      const ids = [...this.dueRefreshes];
      this.dueRefreshes.clear();
      try {
        await this.refresh(ids);
      } catch {
        if (!this.signal.aborted) for (const other of ids) this.refreshSoon(other);
      }
    }, REFRESH_MILLISECONDS);
  }

  async refresh(ids) {
    const { readings } = await getJson(`/api/latest?users=${ids.map(encodeURIComponent).join(",")}&view=full`, { signal: this.signal });
    const latest = new Map(readings.map((reading) => [reading.user_id, reading]));
    for (const id of ids) {
      const person = this.people.get(id);
      if (!this.takeLatest(person, latest.get(id) ?? null)) this.refreshSoon(id);
      this.onChange(person);
    }
  }

  /** Path of the request of a sparkline, as it was last sent. */
  rangePath(id) {
    return this.ranges.get(id) ?? this.newRangePath(id);
  }

  newRangePath(id) {
    const from = new Date(this.now() - SPARKLINE_HOURS * 3_600_000).toISOString().replace(/\.\d+Z$/, "Z");
    return `/api/bg/${encodeURIComponent(id)}?from=${from}`;
  }

  async readRanges(ids) {
    const waiting = [...ids];
    const reader = async () => {
      for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) await this.readRange(id);
    };
    await Promise.all(Array.from({ length: PARALLEL_RANGES }, reader));
  }

  async readRange(id) {
    const person = this.people.get(id);
    const path = this.newRangePath(id);
    this.ranges.set(id, path);
    try {
      const readings = await getJson(path, { signal: this.signal });
      person.points.clear();
      for (const reading of readings) person.addPoint(reading);
      if (person.latest) person.addPoint(person.latest);
      this.onChange(person);
    } catch {
      // An unknown user has no chart, and its panel shows the state from the stream. After another fault the chart is incomplete.
    }
  }
}
