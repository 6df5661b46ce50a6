// Requests to the service with the reader's credential, downloads, and live streams.

import { credential } from "./session.js";
import { h } from "./dom.js";

export { openStream } from "./stream.js";

/** A refused request: the status and the problem document (RFC 9457). */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `The service answered with status ${status}.`);
    this.status = status;
    this.problem = problem;
  }
}

/** Send a request; an ApiError for any other answer than success. Status 0 means that no answer arrived. */
export async function send(path, { method = "GET", body, accept = "application/json", headers = {}, signal } = {}) {
  if (!path.startsWith("/") || path.startsWith("//")) throw new Error("only paths of this service");
  const key = credential();
  const all = { Accept: accept, ...headers };
  if (key) all.Authorization = `Bearer ${key}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  const init = { method, headers: all, signal, credentials: "omit", referrerPolicy: "no-referrer" };
  if (body !== undefined) init.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (signal?.aborted || error.name === "AbortError") throw error;
    throw new ApiError(0, { type: "unreachable", detail: "The service cannot be reached: check that it runs." });
  }
  if (response.ok) return response;
  if (response.status === 401) window.dispatchEvent(new CustomEvent("signed-out"));
  throw new ApiError(response.status, await readProblem(response));
}

export async function getJson(path, { signal } = {}) {
  return (await send(path, { signal })).json();
}

/** Send a body, or none if it is undefined. The answer is its JSON, or null if it has none. */
export async function postJson(path, body, { signal, method = "POST" } = {}) {
  const text = await (await send(path, { method, body, signal })).text();
  return text ? JSON.parse(text) : null;
}

/** Save an answer as a file. A link could not carry the credential. */
export async function download(path, accept, name) {
  const response = await send(path, { accept });
  const address = URL.createObjectURL(await response.blob());
  const link = h("a", { href: address, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** The request as a command line. The key is a variable of the shell, so that the text can be shown and shared. */
export function toCurl({ method = "GET", path, body, accept, headers = {} }) {
  const parts = ["curl -s"];
  if (method !== "GET") parts.push(`-X ${method}`);
  if (credential()) parts.push('-H "Authorization: Bearer $BG_INGEST_KEY"');
  const others = Object.entries(accept ? { Accept: accept, ...headers } : headers);
  parts.push(...others.map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`));
  if (body !== undefined) parts.push("-H 'Content-Type: application/json'", `-d ${quote(JSON.stringify(body))}`);
  return [...parts, quote(location.origin + path)].join(" ");
}

/** A text as one word of a shell. */
export function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function readProblem(response) {
  try {
    return await response.json();
  } catch {
    return { type: "unreadable", detail: `The service answered with status ${response.status}.` };
  }
}
