// Form of one route of the reference: its parameters and body, the request as curl, and the answer as it arrives.

import { ApiError, send, toCurl } from "./api.js";
import { copyButton } from "./copy.js";
import { confirm } from "./dialog.js";
import { h, replace } from "./dom.js";

/** Characters of an answer that are shown; a stream has no end. */
const MAX_SHOWN = 100_000;
const BINARY = /parquet|arrow/;

function field(article, { name, place, sample, required }) {
  const id = `${article.id}-${place}-${name}`;
  const input = h("input", { id, name, required, value: sample, autocomplete: "off", spellcheck: "false" });
  const label = h("label", { for: id }, h("code", {}, name), ` ${place}${required ? ", required" : ""}`);
  return { name, place, input, element: h("p", {}, label, input) };
}

function parametersOf(article) {
  return [...article.querySelectorAll("code[data-place]")].map(({ textContent: name, dataset }) => ({
    name,
    place: dataset.place,
    sample: dataset.sample ?? "",
    required: dataset.required !== undefined,
  }));
}

function chooser(article, types) {
  if (types.length < 2) return null;
  const id = `${article.id}-accept`;
  const select = h("select", { id }, types.map((type) => h("option", { value: type }, type)));
  return { select, element: h("p", {}, h("label", { for: id }, "Form of the answer"), select) };
}

function bodyField(article) {
  if (article.dataset.body === undefined) return null;
  const id = `${article.id}-body`;
  const area = h("textarea", { id, rows: "4", spellcheck: "false" }, article.dataset.body);
  return { area, element: h("p", {}, h("label", { for: id }, "Body, JSON; empty for none"), area) };
}

/** Path with its query. A parameter without a value is left out. */
function pathOf(template, fields) {
  const filled = fields.filter(({ input }) => input.value !== "");
  const path = filled
    .filter(({ place }) => place === "path")
    .reduce((text, { name, input }) => text.replace(`{${name}}`, encodeURIComponent(input.value)), template);
  const query = filled.filter(({ place }) => place === "query").map(({ name, input }) => [name, input.value]);
  return query.length ? `${path}?${new URLSearchParams(query)}` : path;
}

function textOf(type, text) {
  if (!/json$/.test(type)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Show an answer while it arrives, and end at the limit. */
async function showAnswer(response, output) {
  const type = (response.headers.get("Content-Type") ?? "").split(";")[0];
  if (BINARY.test(type)) {
    const { size } = await response.blob();
    return replace(output, `${size.toLocaleString("en")} bytes of ${type}. Use the request as curl, with -o and a file name.`);
  }
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (reader && text.length < MAX_SHOWN) {
    const { value, done } = await reader.read();
    if (done) return replace(output, textOf(type, text) || "No body.");
    text += value;
    replace(output, text.slice(0, MAX_SHOWN));
  }
  await reader?.cancel();
  return output.append("\n… The answer is longer.");
}

/** The form of an article. Requests that delete are confirmed first. */
export function tryForm(article) {
  const { method, path: template, accept } = article.dataset;
  const fields = parametersOf(article).map((parameter) => field(article, parameter));
  const types = chooser(article, accept ? accept.split(" ") : []);
  const body = bodyField(article);
  const curl = h("code", {});
  const status = h("p", { role: "status", class: "status" });
  const output = h("code", {});
  const answer = h("pre", { tabindex: "0", "aria-label": "Answer", hidden: true }, output);
  const stop = h("button", { type: "button", hidden: true, onclick: () => running?.abort() }, "Stop");
  let running = null;

  function request() {
    const headers = fields.filter(({ place, input }) => place === "header" && input.value !== "");
    const text = body?.area.value.trim();
    return {
      method,
      path: pathOf(template, fields),
      accept: types?.select.value ?? accept,
      body: text ? JSON.parse(text) : undefined,
      headers: Object.fromEntries(headers.map(({ name, input }) => [name, input.value])),
    };
  }

  function showCurl() {
    try {
      curl.textContent = toCurl(request());
    } catch {
      curl.textContent = "The body is not JSON.";
    }
  }

  async function run(options, { signal }) {
    const { path, ...others } = options;
    const began = performance.now();
    const took = (code) => `Status ${code}, ${Math.round(performance.now() - began)} ms.`;
    try {
      const response = await send(path, { ...others, signal });
      status.textContent = took(response.status);
      await showAnswer(response, output);
    } catch (error) {
      if (running.signal !== signal) return; // replaced by a later request, which owns the status now
      if (signal.aborted) return void (status.textContent += " Stopped.");
      if (!(error instanceof ApiError)) throw error;
      status.textContent = error.status ? took(error.status) : error.message;
      replace(output, JSON.stringify(error.problem, null, 2));
    }
  }

  async function submit(event) {
    event.preventDefault();
    let options;
    try {
      options = request();
    } catch (error) {
      return void (status.textContent = `The body is not JSON: ${error.message}`);
    }
    const title = `${method} ${options.path}?`;
    const text = `${article.querySelector("h3").textContent}. This cannot be undone.`;
    if (method === "DELETE" && !(await confirm({ title, text, action: "Delete" }))) return undefined;
    running?.abort();
    const started = new AbortController();
    running = started;
    replace(output);
    status.textContent = "Sent.";
    answer.hidden = false;
    stop.hidden = false;
    await run(options, started);
    if (running === started) stop.hidden = true;
    return undefined;
  }

  showCurl();
  return h(
    "form",
    { onsubmit: submit, oninput: showCurl },
    h("div", { class: "fields" }, fields.map(({ element }) => element)),
    types?.element,
    body?.element,
    h("pre", { class: "curl", tabindex: "0", "aria-label": "Request" }, curl),
    h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Send"), stop, copyButton(curl, "Copy as curl")),
    status,
    answer,
  );
}
