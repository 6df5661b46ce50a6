// The users with the oldest newest reading, each with the reason that the timeline of the connection gives.
import { getJson } from "./api.js";
import { h } from "./dom.js";
import { STATE_WORDS, ago } from "./people_state.js";
import { userHash } from "./session.js";
import { table } from "./service_table.js";

const SHOWN = 8;
// Users whose connections have all ended are left out. Therefore more users are examined than shown.
const EXAMINED = 24;
// Users that are compared at all: one page of the list.
const LISTED = 1_000;
// A list of more users than this is read once a minute, because it costs half a read unit per user.
const CHEAP_LIST = 100;
const CACHE_MILLISECONDS = 60_000;
const ENDED = new Set(["disconnected", "connecting"]);

let listing = { at: -Infinity, users: [], more: false };
let timelines = new Map();

async function listUsers(signal) {
  const isFresh = performance.now() - listing.at < CACHE_MILLISECONDS;
  if (isFresh && listing.users.length > CHEAP_LIST) return listing;
  const { users, more } = await getJson(`/api/users?view=full&limit=${LISTED}`, { signal });
  listing = { at: performance.now(), users, more };
  return listing;
}

function byLag(first, second) {
  return Date.parse(first.newest_reading_at ?? 0) - Date.parse(second.newest_reading_at ?? 0);
}

/** Read connections and timelines of a user: again after a minute, or once the user has changed. */
async function readReasons(user, signal) {
  const known = timelines.get(user.user_id);
  const isFresh = known && performance.now() - known.at < CACHE_MILLISECONDS;
  if (isFresh && known.change === user.change) return known.reasons;
  const path = `/api/users/${encodeURIComponent(user.user_id)}/connections`;
  const connections = (await getJson(path, { signal })).filter((connection) => !ENDED.has(connection.state));
  const reasons = await Promise.all(
    connections.map(({ provider }) => getJson(`${path}/${encodeURIComponent(provider)}/timeline`, { signal })),
  );
  timelines.set(user.user_id, { at: performance.now(), change: user.change, reasons });
  return reasons;
}

export async function readLateUsers(signal) {
  const { users, more } = await listUsers(signal);
  const candidates = [...users].sort(byLag).slice(0, EXAMINED);
  const rows = [];
  while (candidates.length && rows.length < SHOWN) {
    const batch = candidates.splice(0, SHOWN - rows.length);
    const answers = await Promise.all(batch.map((user) => readReasons(user, signal)));
    batch.forEach((user, index) => answers[index].length && rows.push({ user, reasons: answers[index] }));
  }
  timelines = new Map([...timelines].slice(-EXAMINED * 2));
  return { rows, more };
}

function reasonText({ next, events }) {
  if (next.why !== "retry") return next.because;
  const outcome = events.find((event) => event.kind === "polled")?.outcome;
  const failures = `${next.failures} ${next.failures === 1 ? "failure" : "failures"} in a row`;
  return outcome ? `${next.because} Outcome: ${outcome.replaceAll("_", " ")}, ${failures}.` : next.because;
}

function nextText({ next }) {
  return next.at ? new Date(next.at).toLocaleTimeString("en-GB") : "none";
}

function toRow(user, timeline) {
  const newest = user.newest_reading_at;
  return [
    h("a", { href: userHash(user.user_id) }, user.user_id),
    newest ? ago((Date.now() - Date.parse(newest)) / 1000) : "none",
    STATE_WORDS[user.state ?? "none"] ?? user.state,
    `${timeline.provider}: ${timeline.state.replaceAll("_", " ")}`,
    reasonText(timeline),
    nextText(timeline),
  ];
}

export function showLateUsers({ rows, more }) {
  const cells = rows.flatMap(({ user, reasons }) => reasons.map((timeline) => toRow(user, timeline)));
  const columns = ["User", "Newest reading", "State", "Connection", "Reason", "Next poll"];
  const list = table("Users by the age of their newest reading", columns, cells, "no user has a connection in use.", "wide");
  return more ? [h("p", {}, `Of the first ${LISTED.toLocaleString("en-GB")} users of the list.`), list] : [list];
}
