// View for operators: state of the answering replica, the users whose newest reading is the oldest, unreadable records.
import { getJson } from "./api.js";
import { h } from "./dom.js";
import { readLateUsers, showLateUsers } from "./service_late.js";
import { readMetrics, showMetrics } from "./service_metrics.js";
import { showReplica } from "./service_replica.js";
import { patch } from "./service_table.js";

const REFRESH_MILLISECONDS = 10_000;
const MISSING_SCOPE = {
  replica: "This key may not inspect the service: it needs the scope admin and must be valid for all users.",
  late: "This key may not list users and connections: it needs readings:read and connections:read for all users.",
};

function explain(error, part) {
  if (error.status === 403) return MISSING_SCOPE[part] ?? error.message;
  return `Not readable now: ${error.problem?.detail ?? error.message}`;
}

/** A part of the view: read, then shown; a fault of one part leaves the others as they are. */
class Part {
  constructor(title, name, read, show) {
    Object.assign(this, { name, read, show });
    this.fault = h("p", { class: "service-fault", role: "status" });
    this.body = h("div", { class: "service-body" });
    this.element = h("section", { class: "service-part", "aria-label": title }, h("h2", {}, title), this.fault, this.body);
  }

  async refresh(signal) {
    try {
      const answer = await this.read(signal);
      this.fault.textContent = "";
      patch(this.body, h("div", {}, ...this.show(answer)));
    } catch (error) {
      if (signal.aborted) return;
      this.fault.textContent = explain(error, this.name);
    }
  }
}

export async function render(root, { signal }) {
  const parts = [
    new Part("Replica", "replica", (abort) => getJson("/api/workers", { signal: abort }), showReplica),
    new Part("Users with the oldest readings", "late", readLateUsers, showLateUsers),
    new Part("Unreadable records and streams", "metrics", readMetrics, showMetrics),
  ];
  const updated = h("p", { class: "service-updated" }, "Loading…");
  root.append(h("h1", {}, "Service"), updated, ...parts.map((part) => part.element));

  let isReading = false;
  async function refresh() {
    if (isReading || document.hidden) return;
    isReading = true;
    await Promise.all(parts.map((part) => part.refresh(signal)));
    isReading = false;
    updated.textContent = `As of ${new Date().toLocaleTimeString("en-GB")}, read again every 10 seconds.`;
  }

  const timer = setInterval(refresh, REFRESH_MILLISECONDS);
  signal.addEventListener("abort", () => clearInterval(timer));
  document.addEventListener("visibilitychange", refresh, { signal });
  await refresh();
}
