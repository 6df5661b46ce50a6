// Shown readings and gaps of a day: filled from the range, kept up to date by the change stream.

/** Readings of one sensor within so many milliseconds are one measurement, of which the service shows one. */
const SAME_MEASUREMENT = 150_000;

function keyOf(reading) {
  return [reading.timestamp, reading.provider, reading.sensor, reading.device].join(" ");
}

/** Readings and gaps of one person. `load` takes answers of the API, `apply` an event of the stream. */
export class ReadingsLog {
  #readings = new Map();
  #gaps = new Map();

  load(readings, gaps) {
    this.#readings = new Map(readings.map((reading) => [keyOf(reading), reading]));
    this.#gaps = new Map(gaps.map((gap) => [`${gap.provider} ${gap.from}`, gap]));
  }

  /** Readings by time. */
  readings() {
    return [...this.#readings.values()].sort((a, b) => a.timestamp.localeCompare(b.timestamp));
  }

  /** Open gaps: a healed gap has its readings. */
  gaps() {
    return [...this.#gaps.values()].filter((gap) => !gap.healed_at);
  }

  /** Newest reading, or undefined. */
  newest() {
    return this.readings().at(-1);
  }

  /** Remove readings before an instant. */
  forgetBefore(ms) {
    for (const [key, { timestamp }] of this.#readings) if (Date.parse(timestamp) < ms) this.#readings.delete(key);
  }

  /** Apply an event. True if the range must be read again, because the event alone does not decide what is shown. */
  apply({ type, data }, from) {
    const change = data.data;
    if (type === "bg.gap.opened.v1") this.#gaps.set(`${change.provider} ${change.from}`, change);
    else if (type === "bg.gap.healed.v1") this.#gaps.delete(`${change.provider} ${change.from}`);
    else if (type === "bg.readings.removed.v1") return true;
    else if (type === "bg.readings.recorded.v1" || type === "bg.readings.revised.v1") {
      const recent = change.readings.filter(({ timestamp }) => Date.parse(timestamp) >= from);
      return recent.map((reading) => this.#add(reading)).includes(true);
    }
    return false;
  }

  /** Add a reading. Beside another device's reading of the same sensor, the service decides which of the two is shown. */
  #add(reading) {
    const at = Date.parse(reading.timestamp);
    const isContested = [...this.#readings.values()].some(
      (other) =>
        Math.abs(Date.parse(other.timestamp) - at) <= SAME_MEASUREMENT &&
        (other.device !== reading.device || other.provider !== reading.provider) &&
        (other.sensor === reading.sensor || other.provider !== reading.provider),
    );
    if (!isContested) this.#readings.set(keyOf(reading), reading);
    return isContested;
  }
}
