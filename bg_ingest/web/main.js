// Shell: addresses, navigation, sign-in. A view is a module that is loaded when it is opened.

import { ApiError } from "./api.js";
import { h, replace } from "./dom.js";
import { setUnit, unit } from "./format.js";
import { credential, forget, sharedUser, signIn, takeFromAddress, userHash } from "./session.js";

/** Views by the first part of their address. `title` is the word in the navigation, if the view has a link there. */
const VIEWS = {
  person: { module: "./person.js", title: "Person", inNavigation: false },
  people: { module: "./people.js", title: "People", inNavigation: true },
  connect: { module: "./connect.js", title: "Connect", inNavigation: true },
  service: { module: "./service.js", title: "Service", inNavigation: true },
};

const LINK_COMMAND = "bg-ingest keys create --link --days 30 --scope readings:read --scope connections:read --scope connections:write --scope admin";

const top = document.getElementById("top");
const main = document.getElementById("main");
let leave = new AbortController();

/** The view of an address: {view, user, query}. */
export function parseHash(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [first = "", second] = path.split("/");
  const found = { query: new URLSearchParams(query ?? "") };
  if (first === "user" && second) return { ...found, view: "person", user: decode(second) };
  if (Object.hasOwn(VIEWS, first) && first !== "person") return { ...found, view: first, user: null };
  return first ? { ...found, view: "person", user: decode(first) } : { ...found, view: "home", user: null };
}

async function open() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const { view, user, query } = parseHash(location.hash);
  if (view === "home" && sharedUser()) return location.replace(userHash(sharedUser()));
  const name = view === "home" ? "people" : view;
  document.title = `${user ?? VIEWS[name].title} · BG Ingest`;
  renderTop(name);
  const root = h("div", { class: `view view-${name}` });
  replace(main, root);
  try {
    const module = await import(VIEWS[name].module);
    if (!signal.aborted) await module.render(root, { user, query, signal });
  } catch (error) {
    if (!signal.aborted) showError(root, error, user);
  }
}

function renderTop(active) {
  const link = ([name, { title }]) =>
    h("a", { href: `#/${name}`, "aria-current": name === active ? "page" : null }, title);
  const named = Object.entries(VIEWS).filter(([, view]) => view.inNavigation);
  replace(
    top,
    h("a", { class: "brand", href: "#/" }, "BG Ingest"),
    h("nav", { "aria-label": "Views" }, named.map(link), h("a", { href: "/schema/page" }, "API")),
    h("div", { class: "tools" }, unitSwitch(), credential() && h("button", { type: "button", onclick: leaveSession }, "Forget key")),
  );
}

function unitSwitch() {
  const other = unit() === "mg/dL" ? "mmol/L" : "mg/dL";
  const change = () => {
    setUnit(other);
    open().then(() => top.querySelector("#unit")?.focus());
  };
  return h("button", { type: "button", id: "unit", "aria-label": `Unit ${unit()}, change to ${other}`, onclick: change }, unit());
}

function leaveSession() {
  forget();
  location.hash = "#/";
  open();
}

function showError(root, error, user) {
  if (error instanceof ApiError && error.status === 401) return showSignIn(root, credential() ? error.message : "");
  if (error instanceof ApiError && error.status === 403 && user === null) return showUserForm(root, error);
  const retry = h("button", { type: "button", onclick: open }, "Try again");
  const text = error instanceof ApiError ? error.message : "This view failed. The browser's console has the reason.";
  if (!(error instanceof ApiError)) console.error(error);
  replace(root, h("h1", {}, "This did not work"), h("p", { role: "alert" }, text), h("p", {}, retry));
}

/** A credential of single users cannot list them: ask for the one to open. */
function showUserForm(root, error) {
  const field = h("input", { id: "user", required: true, autocomplete: "off", spellcheck: "false" });
  const submit = (event) => {
    event.preventDefault();
    location.hash = userHash(field.value.trim());
  };
  replace(
    root,
    h("h1", {}, "Open a user"),
    h("p", {}, error.message),
    h("form", { class: "sign-in", onsubmit: submit },
      h("label", { for: "user" }, "User id"), field, h("p", {}, h("button", { type: "submit", class: "primary" }, "Open"))),
  );
}

function showSignIn(root, problem) {
  const field = h("input", {
    id: "credential", type: "password", autocomplete: "off", spellcheck: "false", required: true,
    "aria-describedby": "credential-help",
  });
  const submit = (event) => {
    event.preventDefault();
    if (/[^ -~]/.test(field.value.trim())) return showSignIn(root, "This is no key: it has characters that no key contains.");
    signIn(field.value);
    if (sharedUser()) history.replaceState(null, "", userHash(sharedUser()));
    open();
  };
  replace(
    root,
    h("h1", {}, "Sign in"),
    problem && h("p", { role: "alert" }, problem),
    h("form", { class: "sign-in", onsubmit: submit },
      h("label", { for: "credential" }, "API key, token or share link"),
      field,
      h("p", { id: "credential-help", class: "muted" }, "It is kept in this tab until you close it or choose Forget key. An operator creates a link with a key by ", h("code", {}, LINK_COMMAND), "."),
      h("button", { type: "submit", class: "primary" }, "Sign in")),
  );
  field.focus();
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

window.addEventListener("hashchange", () => {
  takeFromAddress();
  open().then(() => main.focus({ preventScroll: true }));
});
window.addEventListener("signed-out", () => {
  leave.abort();
  const root = h("div", { class: "view" });
  replace(main, root);
  showSignIn(root, credential() ? "The credential is unknown, has expired or was revoked: sign in with another." : "");
  renderTop("home");
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
open();
