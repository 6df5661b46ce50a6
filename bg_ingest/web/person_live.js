// Live day of a person. The change stream begins with a snapshot. The range is read as of its change, and later events are added.

import { ApiError, getJson, openStream } from "./api.js";
import { ReadingsLog } from "./readings_log.js";

const DAY = 86_400_000;
const SNAPSHOT_TIMEOUT = 2_000;
const LATEST_DELAY = 200;
const RELOAD_DELAY = 1_000;

/** An instant as the API reads it: UTC, whole seconds. */
export function instant(ms) {
  return new Date(ms).toISOString().replace(/\.\d+/, "");
}

/** Newest reading with its state; null without one. */
async function readLatest(path, signal) {
  try {
    return await getJson(`${path}/latest?view=full`, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** Readings and gaps of the 24 hours before an instant. `selection` is `&as_of=…`, `&as_of_change=…` or empty. */
export async function readDay(path, at, selection, signal) {
  const from = encodeURIComponent(instant(at - DAY));
  const to = encodeURIComponent(instant(at));
  const [readings, gaps] = await Promise.all([
    getJson(`${path}?view=full&from=${from}&to=${to}${selection}`, { signal }),
    getJson(`${path}/gaps?from=${from}&to=${to}`, { signal }),
  ]);
  return { readings, gaps };
}

/**
 * Follow a person. The promise resolves after the first load, and rejects if that fails.
 *
 * `onChange({log, latest, now})` is called after each load and event; `now()` is the time by the clock of the service.
 * `onReadings(origin)` is called for each event with readings, `onState(state, reason)` for each state of the stream.
 */
export function followDay(path, { onChange, onReadings, onState, signal }) {
  const log = new ReadingsLog();
  let latest = null;
  let skew = 0;
  let queue = Promise.resolve();
  let isLoaded = false;
  const timers = new Map();
  const now = () => Date.now() + skew;
  const changed = () => onChange({ log, latest, now });

  /** Run a task once after a delay, however often it is requested meanwhile. */
  function once(name, delay, task) {
    if (timers.has(name)) return;
    const run = () => {
      timers.delete(name);
      if (!signal.aborted) queue = queue.then(task).catch(() => {});
    };
    timers.set(name, setTimeout(run, delay));
  }

  async function loadLatest() {
    latest = await readLatest(path, signal);
    if (latest) skew = Date.parse(latest.timestamp) + latest.age_seconds * 1000 - Date.now();
  }

  async function load(change) {
    await loadLatest();
    const selection = change ? `&as_of_change=${change}` : "";
    const { readings, gaps } = await readDay(path, now() + 1000, selection, signal);
    log.load(readings, gaps);
    isLoaded = true;
    changed();
  }

  async function handle(event) {
    if (event.type === "snapshot") return load(event.data.change);
    if (!event.type.startsWith("bg.")) return undefined;
    log.forgetBefore(now() - DAY);
    if (log.apply(event, now() - DAY)) once("load", RELOAD_DELAY, () => load());
    if (event.data.data.readings) onReadings(event.data.data.origin);
    once("latest", LATEST_DELAY, async () => {
      await loadLatest();
      changed();
    });
    return undefined;
  }

  return new Promise((resolve, reject) => {
    // All loads and events run one after the other: a load never replaces what a later event added.
    const next = (task) => {
      queue = queue.then(task).then(resolve, (error) => isLoaded || reject(error));
    };
    const first = () => signal.aborted || next(() => isLoaded || load());
    // Without a snapshot, for example if all streams are taken, the day is shown without live updates.
    setTimeout(first, SNAPSHOT_TIMEOUT);
    signal.addEventListener("abort", () => timers.forEach(clearTimeout));
    openStream(
      { path: `${path}/changes` },
      {
        onEvent: (event) => next(() => handle(event)),
        onState: (state, reason) => {
          onState(state, reason);
          if (state !== "live" && !isLoaded) first();
        },
        signal,
      },
    );
  });
}
