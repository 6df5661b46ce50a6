// State of one person in the list: the newest reading, the readings of the sparkline, and the place in the order.
import { age } from "./format.js";
import { SPARKLINE_HOURS } from "./sparkline.js";

const SPAN = SPARKLINE_HOURS * 3_600_000;
const LOW_VALUE = 39; // The API's value of a reading that the sensor sent as LOW only; 401 is HIGH.
const HIGH_VALUE = 401;
// So many older answers are ignored, because the API may lag by a second. The next one is accepted: then the shown reading
// has a time in the future, which the API shows only from that time on.
const MAX_OLDER_ANSWERS = 3;

export const STATE_WORDS = {
  live: "live",
  late: "late: next reading overdue",
  gap: "no readings for over an hour",
  reauthorization_required: "must connect again",
  action_required: "needs an action of the person",
  paused: "paused",
  erased: "erased",
  unknown: "unknown, or not permitted",
  none: "no readings yet",
  loading: "loading",
};

// Problems first, then values out of range. A lower rank is worse.
const STATE_RANKS = { reauthorization_required: 0, action_required: 0, gap: 1, late: 2, paused: 3, none: 4, unknown: 5 };
const LOW_RANK = 6;
const HIGH_RANK = 7;
const REST_RANK = 8;

export function ago(seconds) {
  return seconds < 60 ? "just now" : `${age(seconds)} ago`;
}

export function flagOf(value) {
  if (value === LOW_VALUE) return "low";
  return value === HIGH_VALUE ? "high" : "ok";
}

export function rangeOf(value) {
  if (value < 54) return "very-low";
  if (value < 70) return "low";
  if (value > 250) return "very-high";
  return value > 180 ? "high" : "in-range";
}

export class Person {
  constructor(id, change = null) {
    this.id = id;
    this.change = change;
    this.latest = null;
    this.missing = null;
    this.points = new Map();
    this.rank = REST_RANK;
    this.olderAnswers = 0;
  }

  /** Take the answer of the API; false if it is older than the reading on screen, since answers may lag a second. */
  setLatest(latest) {
    if (!latest) {
      this.missing = this.latest ? null : "none";
      return this.latest === null;
    }
    const isOlder = this.latest && Date.parse(latest.measured_at) < Date.parse(this.latest.measured_at);
    if (isOlder && this.olderAnswers++ < MAX_OLDER_ANSWERS) return false;
    this.olderAnswers = 0;
    this.missing = null;
    this.latest = latest;
    this.addPoint(latest);
    return true;
  }

  addPoint(reading) {
    this.points.set(Date.parse(reading.timestamp), reading.glucose_mg_dl);
  }

  /** Take readings of an event. False if they are of another device, because the API merges devices itself. */
  addReadings(readings) {
    let complete = true;
    for (const reading of readings) {
      if (this.latest && (reading.device !== this.latest.device || reading.sensor !== this.latest.sensor)) {
        complete = false;
        continue;
      }
      this.addPoint(reading);
      if (!this.latest || Date.parse(reading.measured_at) >= Date.parse(this.latest.measured_at)) {
        this.latest = { ...reading, state: "live", late_at: null, gap_at: null };
        this.missing = null;
      }
    }
    return complete;
  }

  /** Points of the last three hours, ascending; older ones are forgotten, so that memory stays bounded. */
  recentPoints(now) {
    for (const t of this.points.keys()) if (t < now - SPAN) this.points.delete(t);
    return [...this.points].map(([t, value]) => ({ t, value })).sort((a, b) => a.t - b.t);
  }

  /** State as of now: without a new reading the API's own times decide. */
  state(now) {
    if (this.missing) return this.missing;
    if (!this.latest) return "loading";
    const { state, late_at: lateAt, gap_at: gapAt } = this.latest;
    if (state !== "live" && state !== "late") return state;
    if (gapAt && now > Date.parse(gapAt)) return "gap";
    return state === "live" && lateAt && now > Date.parse(lateAt) ? "late" : state;
  }

  reviewRank(now) {
    const state = this.state(now);
    const value = this.latest?.glucose_mg_dl ?? 100;
    if (state in STATE_RANKS) this.rank = STATE_RANKS[state];
    else if (value < 70) this.rank = LOW_RANK;
    else this.rank = value > 180 ? HIGH_RANK : REST_RANK;
  }
}

const collator = new Intl.Collator("en", { numeric: true });

export function compare(first, second) {
  return first.rank - second.rank || collator.compare(first.id, second.id);
}
