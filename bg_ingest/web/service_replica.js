// State of the answering replica, from `GET /api/workers`.
import { facts, table } from "./service_table.js";

function number(value) {
  return value.toLocaleString("en-GB");
}

function stateText({ state, unready }) {
  return unready.length ? `${state}, not ready: ${unready.join(", ")}` : `${state}, ready`;
}

function brokerText({ degraded }) {
  const faults = degraded.filter((part) => part.startsWith("broker"));
  return faults.length ? faults.join(", ") : "no fault";
}

export function showReplica(status) {
  const { actors, shards, connections, relay } = status;
  const overview = facts([
    ["Replica", status.owner ?? "not registered"],
    ["State", stateText(status)],
    ["Degraded", status.degraded.length ? status.degraded.join(", ") : "nothing"],
    ["Broker", brokerText(status)],
    ["Shards", `${number(shards.owned)} owned, ${number(shards.loading)} loading`],
    ["Connections", `${number(connections.polled)} polled, ${number(connections.polls_running)} polls running`],
    ["Actors", `${actors.filter((actor) => actor.running).length} of ${actors.length} running`],
    ["Relay", `${number(relay.backlog_shards)} shards with waiting events, ${number(relay.failures)} failures`],
  ]);
  const owners = status.owners.map(({ id, shards: owned, leaving }) => [id, number(owned), leaving ? "yes" : "no"]);
  const budgets = status.budgets.map((budget) => [
    `${budget.provider} ${budget.region}`,
    budget.wanted_per_second.toFixed(2),
    number(budget.calls),
    number(budget.waiting),
    budget.slowdown.toFixed(1),
    budget.paused ? "yes" : "no",
  ]);
  const faulty = actors
    .filter(({ running, crashes }) => !running || crashes > 0)
    .map(({ name, running, crashes }) => [name, running ? "running" : "stopped", number(crashes)]);
  const budgetColumns = ["Provider", "Call demand per second", "Calls since start", "Waiting", "Slowdown", "Paused"];
  return [
    overview,
    table("All replicas", ["Replica", "Shards", "Leaving"], owners, "none."),
    table("Call budgets", budgetColumns, budgets, "no provider has been called."),
    table("Actors that stopped or crashed", ["Actor", "State", "Crashes"], faulty, "none."),
  ];
}
