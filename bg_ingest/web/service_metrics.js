// Counts of the answering replica since its start, from its metrics.
import { h } from "./dom.js";
import { facts, table } from "./service_table.js";

const LINE = /^bg_ingest_(quarantined_records_total|streams|outbox_waiting)(\{[^}]*\})? (\S+)/gm;
const LABEL = /(\w+)="([^"]*)"/g;

export function parseMetrics(text) {
  return [...text.matchAll(LINE)].map(([, name, labels, value]) => ({
    name,
    labels: Object.fromEntries([...(labels ?? "").matchAll(LABEL)].map(([, key, content]) => [key, content])),
    value: Number(value),
  }));
}

/** The route is open and needs no credential. Null if the metrics are on another port (`METRICS_PORT`). */
export async function readMetrics(signal) {
  const response = await fetch("/metrics", { signal, credentials: "omit" });
  return response.ok ? parseMetrics(await response.text()) : null;
}

function total(samples, name) {
  return samples.filter((sample) => sample.name === name).reduce((sum, sample) => sum + sample.value, 0);
}

export function showMetrics(samples) {
  if (samples === null) {
    const text = "The metrics of this service are on another port (METRICS_PORT), which this page may not read.";
    return [h("p", {}, text, " ", h("code", {}, "bg-ingest quarantine list"), " shows the records.")];
  }
  const counts = samples
    .filter(({ name, value }) => name === "quarantined_records_total" && value > 0)
    .map(({ labels, value }) => [labels.reason.replaceAll("_", " "), labels.provider, value.toLocaleString("en-GB")]);
  const overview = facts([
    ["Open streams", total(samples, "streams").toLocaleString("en-GB")],
    ["Events waiting for the broker", total(samples, "outbox_waiting").toLocaleString("en-GB")],
    ["Unreadable records since the start", total(samples, "quarantined_records_total").toLocaleString("en-GB")],
  ]);
  return [overview, table("Unreadable records", ["Reason", "Provider", "Records"], counts, "none since the start.")];
}
