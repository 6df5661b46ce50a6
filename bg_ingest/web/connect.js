// Connect: the connections of one user, and the login at a provider that makes a new one.

import { ApiError, getJson, postJson } from "./api.js";
import { connectionCard } from "./connection_card.js";
import { confirm } from "./dialog.js";
import { h, replace } from "./dom.js";
import { describeProvider, OFFERED } from "./providers.js";
import { sharedUser, userHash } from "./session.js";

const LAST_USER = "bg-ingest-connect-user";
const USER_ID = /^[A-Za-z0-9][A-Za-z0-9._:@|-]{0,127}$/;
const REFRESH_MS = 5_000;
const REFRESH_SOON_MS = 1_500;

export async function render(root, { query, signal }) {
  const user = query.get("user") ?? sessionStorage.getItem(LAST_USER) ?? sharedUser() ?? "";
  const panel = h("div", {});
  replace(
    root,
    h("h1", {}, "Connect"),
    h("p", {}, "Connect a person to the maker of their glucose sensor, and see the state of the connections."),
    userForm(user),
    panel,
  );
  if (!user) return;
  if (!USER_ID.test(user)) {
    const rule = "A user id has 1 to 128 letters, digits and ._:@|-; the first is a letter or digit.";
    replace(panel, h("p", { role: "alert", class: "problem" }, rule));
    return;
  }
  sessionStorage.setItem(LAST_USER, user);
  await renderConnections(panel, user, signal);
}

function userForm(user) {
  const field = h("input", {
    id: "connect-user", value: user, required: true, maxlength: "128", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
    "aria-describedby": "connect-user-help",
  });
  const submit = (event) => {
    event.preventDefault();
    const target = `#/connect?user=${encodeURIComponent(field.value.trim())}`;
    if (location.hash === target) window.dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = target;
  };
  return h("form", { class: "connect-user", onsubmit: submit },
    h("label", { for: "connect-user" }, "User id"),
    h("div", { class: "field" }, field, h("button", { type: "submit" }, "Show connections")),
    h("p", { id: "connect-user-help", class: "muted small" },
      "A short name for the person, such as ada. A new one begins a new user."));
}

async function renderConnections(panel, user, signal) {
  const path = `/api/users/${encodeURIComponent(user)}/connections`;
  const status = h("p", { role: "status", class: "message" });
  const problem = h("p", { role: "alert", class: "problem" });
  const list = h("div", { class: "connections" });
  const readings = h("p", {});
  const cards = new Map();
  let timer = null;
  let changing = false;

  async function refresh() {
    const connections = await listConnections(path, signal);
    if (signal.aborted) return;
    const byProvider = new Map(connections.map((connection) => [connection.provider, connection]));
    for (const provider of new Set([...OFFERED, ...byProvider.keys()])) {
      if (!cards.has(provider)) {
        cards.set(provider, connectionCard(provider, (action, region) => act(provider, action, region)));
        list.append(cards.get(provider).element);
      }
    }
    for (const [provider, card] of cards) card.update(byProvider.get(provider) ?? null);
    changing = connections.some(({ state, backfill_done: done }) => state === "active" && done !== null && done < 1);
    const stored = connections.some((connection) => connection.newest_reading_at);
    if (stored !== readings.hasChildNodes()) {
      replace(readings, stored && h("a", { href: userHash(user) }, `See the readings of ${user}`));
    }
  }

  function schedule(delay = changing ? REFRESH_SOON_MS : REFRESH_MS) {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      if (!document.hidden) await refresh().catch(ignoreFailure);
      if (!signal.aborted) schedule();
    }, delay);
  }

  async function act(provider, action, region) {
    replace(problem);
    replace(status);
    try {
      const done = await ACTIONS[action]({ path: `${path}/${provider}`, name: describeProvider(provider).name, user, region, signal });
      if (signal.aborted) return;
      replace(status, done);
      await refresh();
      schedule(REFRESH_SOON_MS);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      replace(problem, error.message);
      schedule(0); // the state has changed elsewhere
    }
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  await refresh();
  if (signal.aborted) return;
  replace(panel, h("h2", {}, `Connections of ${user}`), problem, status, list, readings);
  schedule();
}

/** Requests by control. Each resolves to the sentence that is shown afterwards; empty if nothing happened. */
const ACTIONS = {
  async connect({ path, region }) {
    const { authorize_url: address } = await postJson(path, region ? { region } : undefined);
    location.assign(address);
    return "The login page of the provider opens.";
  },
  async poll({ path }) {
    await postJson(`${path}/poll`);
    return "A poll was requested: new readings appear within seconds.";
  },
  async pause({ path }) {
    await postJson(`${path}/worker`, { paused: true }, { method: "PATCH" });
    return "Paused.";
  },
  async resume({ path }) {
    await postJson(`${path}/worker`, { paused: false }, { method: "PATCH" });
    return "Resumed.";
  },
  async disconnect({ path, name, user, signal }) {
    const agreed = await confirm({
      title: `Disconnect ${name} of ${user}?`,
      text: "Polling stops and the login is deleted. Stored readings stay. To continue later, log in again.",
      action: "Disconnect",
      signal,
    });
    if (!agreed) return "";
    await postJson(path, undefined, { method: "DELETE" });
    return `${name} is disconnected.`;
  },
};

/** The connections of a user; none for an unknown user, whose first connect is about to begin. */
async function listConnections(path, signal) {
  try {
    return await getJson(path, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return [];
    throw error;
  }
}

/** A refresh that failed is tried again; the last state stays visible. */
function ignoreFailure(error) {
  if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
}
