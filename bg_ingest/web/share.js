// Sharing one person: the command that makes a link with a key for this person alone.

import { quote } from "./api.js";
import { copyButton } from "./copy.js";
import { h } from "./dom.js";

const DAYS = [1, 14, 90];

/** Part of the page that shows the command for a number of days. */
export function sharePart(user) {
  const code = h("code", {});
  const show = (days) => {
    code.textContent = `bg-ingest keys create --link --user ${quote(user)} --days ${days}`;
  };
  const options = DAYS.map((days) => h("option", { value: days, selected: days === 14 }, days === 1 ? "1 day" : `${days} days`));
  const select = h("select", { id: "share-days", onchange: () => show(select.value) }, options);
  show(14);
  return h(
    "details",
    { class: "share card" },
    h("summary", {}, "Share"),
    h("p", {}, `A link opens the page of ${user} alone, without a right to change anything, until it ends. Anyone who has it can read these data.`),
    h("p", {}, h("label", { for: "share-days" }, "The link ends after"), select),
    h("p", {}, "Run this on the machine of the service, in its folder. It prints the link; after make demo the program is .venv/bin/bg-ingest."),
    h("pre", { tabindex: "0", "aria-label": "Command" }, code),
    copyButton(code, "Copy the command", "Copy"),
  );
}
