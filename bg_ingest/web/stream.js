// Server-sent events by fetch, because EventSource sends no Authorization header and no body.

import { ApiError, send } from "./api.js";

/** Shortest and longest delay of a reconnect in milliseconds, before a random factor of 0.75 to 1.25. */
const FIRST_DELAY = 500;
const LAST_DELAY = 3_000;
/**
 * A connection without a byte for so many milliseconds counts as lost. Heartbeats are 1 to 60 seconds apart. After the
 * first one the limit is a multiple of the interval of this service, between the two bounds.
 */
const LONGEST_SILENCE = 65_000;
const SHORTEST_SILENCE = 5_000;
const MISSED_HEARTBEATS = 3;
/** Reasons of an `end` after which a new connection would be refused. */
const FINAL = ["credential_ended", "erased"];

/**
 * Read a stream until `signal` aborts or the service ends it for good.
 * `request` is {path} for one user, or {path, body: {after: {user: number}}} for many; `onEvent({type, id, data})`.
 * Each change is passed on once: a reconnect continues after the last one.
 */
export async function openStream(request, { onEvent, onState = () => {}, signal }) {
  const position = { id: null, after: { ...request.body?.after } };
  let delay = FIRST_DELAY;
  while (!signal?.aborted) {
    let reason = "connection lost";
    try {
      reason = await readOnce(request, position, signal, () => ((delay = FIRST_DELAY), onState("live")), onEvent);
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof ApiError && isFinal(error.status)) return onState("ended", error.message);
    }
    if (FINAL.includes(reason)) return onState("ended", reason.replaceAll("_", " "));
    if (signal?.aborted) return;
    onState("reconnecting", reason);
    await wait(delay * (0.75 + Math.random() / 2), signal);
    delay = Math.min(2 * delay, LAST_DELAY);
  }
}

function isFinal(status) {
  return status >= 400 && status < 500 && ![408, 421, 425, 429].includes(status);
}

async function readOnce(request, position, signal, onOpen, onEvent) {
  const connection = new AbortController();
  const stop = () => connection.abort();
  signal?.addEventListener("abort", stop);
  let silence = LONGEST_SILENCE;
  let timer = setTimeout(stop, silence);
  let lastReadAt = performance.now();
  try {
    const response = await send(request.path, options(request, position, connection.signal));
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "connection lost";
      const interval = performance.now() - lastReadAt;
      lastReadAt += interval;
      if (value.startsWith(":")) silence = Math.min(LONGEST_SILENCE, Math.max(SHORTEST_SILENCE, MISSED_HEARTBEATS * interval));
      clearTimeout(timer);
      timer = setTimeout(stop, silence);
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const event of blocks.map(parse).filter((parsed) => parsed.type)) {
        if (event.type === "end") return event.data.reason;
        advance(position, event, request.body);
        onEvent(event);
      }
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
    connection.abort();
  }
}

function options(request, position, signal) {
  const accept = "text/event-stream";
  if (request.body) return { method: "POST", body: { ...request.body, after: position.after }, accept, signal };
  return { accept, signal, headers: position.id === null ? {} : { "Last-Event-ID": position.id } };
}

function advance(position, event, body) {
  if (event.id === null) return;
  position.id = event.id;
  if (!body) return;
  const slash = event.id.lastIndexOf("/");
  position.after[event.id.slice(0, slash)] = Number(event.id.slice(slash + 1));
}

function parse(block) {
  const event = { type: "", id: null, data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (line.startsWith("event:")) event.type = value;
    else if (line.startsWith("id:")) event.id = value;
    else if (line.startsWith("data:")) event.data += value;
  }
  if (event.data) event.data = JSON.parse(event.data);
  return event;
}

function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
