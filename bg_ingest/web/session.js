// The credential of the reader: in this tab's session storage, never in an address.

const NAME = "bg-ingest-credential";
const USER = "bg-ingest-user";

let current = sessionStorage.getItem(NAME);
let user = sessionStorage.getItem(USER);

/** The key or token, or null. */
export function credential() {
  return current;
}

/** The user named by the share link that opened the page, or null. */
export function sharedUser() {
  return user;
}

/** Keep a pasted key or token, or the key of a pasted share link. */
export function signIn(text) {
  const pasted = text.trim();
  const fragment = pasted.includes("#") ? fields(pasted.slice(pasted.indexOf("#") + 1)) : null;
  share(fragment?.get("key") ? fragment.get("user") : null);
  current = fragment?.get("key") ?? pasted.replace(/^Bearer\s+/i, "");
  sessionStorage.setItem(NAME, current);
  return current;
}

/** Delete the credential from this tab. */
export function forget() {
  current = null;
  share(null);
  sessionStorage.removeItem(NAME);
}

function share(id) {
  user = id;
  if (id === null) sessionStorage.removeItem(USER);
  else sessionStorage.setItem(USER, id);
}

/** Take the key from the fragment of a share link, and remove it from the address and the history entry. */
export function takeFromAddress() {
  const fragment = fields(location.hash.slice(1));
  if (!fragment.has("key")) return false;
  const shared = fragment.get("user");
  history.replaceState(null, "", location.pathname + (shared ? userHash(shared) : "#/"));
  if (fragment.get("key")) signIn(`#${fragment}`);
  return true;
}

/** The address of a user's view. Users whose id is the name of a view get the longer form. */
export function userHash(id, reserved = ["people", "service", "connect", "user"]) {
  return `#/${reserved.includes(id) ? "user/" : ""}${encodeURIComponent(id)}`;
}

function fields(text) {
  return new URLSearchParams(text.replaceAll("+", "%2B"));
}

takeFromAddress();
