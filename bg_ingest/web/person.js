// View of one person: the newest value, the last hours live, the last 14 days, and all of it as of a date.

import { ApiError } from "./api.js";
import { h, replace } from "./dom.js";
import { asOfForm } from "./person_as_of.js";
import { daySection } from "./person_day.js";
import { followDay, instant, readDay } from "./person_live.js";
import { nowCard } from "./person_now.js";
import { weeksSection } from "./person_weeks.js";
import { ReadingsLog } from "./readings_log.js";
import { browserOffset } from "./scales.js";
import { sharedUser } from "./session.js";
import { sharePart } from "./share.js";

const DAY = 86_400_000;
const SECOND = 1_000;
const REDRAW = 30 * SECOND;
/** The 14 days are read again so long after readings of a sweep or backfill, and after others if they are older than the age. */
const WEEKS_DELAY = 5 * SECOND;
const WEEKS_AGE = 15 * 60 * SECOND;
/** Age in ms from which an instant is final, so that `as_of` accepts it. */
const FINAL_AFTER = 60 * SECOND;

/** Keep a choice in the address, without a new entry of the history. */
function remember(choices) {
  const [path, text] = location.hash.split("?");
  const query = new URLSearchParams(text ?? "");
  for (const [name, value] of Object.entries(choices)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const rest = query.toString();
  history.replaceState(null, "", rest ? `${path}?${rest}` : path);
}

/** Start the live day: the card counts the age each second, the chart moves every half minute. */
async function showLive({ path, now, day, weeks, zone }, signal) {
  let current = null;
  let weeksAt = 0;
  let weeksTimer = null;
  const draw = () => day.update(current.log.readings(), current.log.gaps(), current.now());
  const loadWeeks = () => {
    weeksTimer = null;
    weeksAt = Date.now();
    return weeks.update({ at: current.now(), known: false, offset: zone.offset });
  };
  const second = setInterval(() => current && now.tick(current.now()), SECOND);
  const redraw = setInterval(() => current && draw(), REDRAW);
  signal.addEventListener("abort", () => [second, redraw, weeksTimer].forEach((timer) => clearTimeout(timer)));
  now.streamState("connecting");
  await followDay(path, {
    signal,
    onState: now.streamState,
    onChange(change) {
      if (signal.aborted) return;
      current = change;
      zone.offset = change.latest?.utc_offset_seconds ?? browserOffset(change.now());
      if (change.latest) now.show(change.latest, change.now());
      else now.empty("There is no reading yet.");
      draw();
    },
    onReadings(origin) {
      const isDue = !["live", "webhook"].includes(origin) || Date.now() - weeksAt > WEEKS_AGE;
      if (isDue && current && !weeksTimer) weeksTimer = setTimeout(loadWeeks, WEEKS_DELAY);
    },
  });
  if (!signal.aborted) await loadWeeks();
}

/**
 * Show the 24 hours and the 14 days before the instant `at`. If `known` is true, readings that arrived later are left
 * out.
 */
async function showPast({ path, now, day, weeks, zone }, { at, known }, signal) {
  now.streamState("");
  const selection = known ? `&as_of=${encodeURIComponent(instant(at))}` : "";
  const { readings, gaps } = await readDay(path, at, selection, signal);
  const log = new ReadingsLog();
  log.load(readings, gaps);
  const newest = log.newest();
  if (newest) now.show({ ...newest, state: "as_of" }, at);
  else now.empty(known ? "No reading of that day was known then." : "That day has no readings.");
  day.update(log.readings(), known ? [] : log.gaps(), at);
  await weeks.update({ at, known, offset: newest?.utc_offset_seconds ?? zone.offset });
}

function showUnknown(root, user) {
  replace(
    root,
    h("h1", {}, user),
    h("p", {}, "There is no such user here, or your credential does not include this user."),
    h("p", {}, h("a", { href: "#/" }, "All users")),
  );
}

export async function render(root, { user, query, signal }) {
  const path = `/api/bg/${encodeURIComponent(user)}`;
  const hours = Number(query.get("hours"));
  const parts = {
    path,
    now: nowCard(),
    day: daySection({ hours, onHours: (count) => remember({ hours: count }) }),
    weeks: weeksSection(user, signal),
    zone: { offset: undefined }, // of the newest reading shown live, in seconds from UTC
  };
  let leave = new AbortController();

  async function show({ date, known }) {
    leave.abort();
    leave = new AbortController();
    const mode = AbortSignal.any([signal, leave.signal]);
    const at = date && Date.parse(`${date}T00:00:00Z`) + DAY - (parts.zone.offset ?? browserOffset(Date.now())) * 1000;
    const isPast = date && at < Date.now() - FINAL_AFTER;
    remember({ as_of: isPast ? date : "", known: isPast && known ? "1" : "" });
    form.setPast(isPast);
    try {
      await (isPast ? showPast(parts, { at, known }, mode) : showLive(parts, mode));
    } catch (error) {
      if (mode.aborted) return;
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      showUnknown(root, user);
    }
  }

  const fail = (error) => parts.now.empty(error.message);
  const form = asOfForm({
    date: query.get("as_of"),
    known: query.get("known") === "1",
    onChange: (choice) => show(choice).catch(fail),
  });
  replace(
    root,
    h("div", { class: "person-head" }, h("h1", {}, user), form.element),
    h("div", { class: "person-top" }, parts.now.element, parts.day.element),
    parts.weeks.element,
    sharedUser() === null && sharePart(user),
  );
  await show(form.choice());
}
