// Question before an action that cannot be undone.

import { h } from "./dom.js";

/**
 * Ask, and resolve to true if the action was chosen. Escape, Cancel and an abort of `signal` resolve to false; focus
 * returns to the opener.
 */
export function confirm({ title, text, action, signal }) {
  return new Promise((resolve) => {
    const heading = h("h2", { id: "dialog-title" }, title);
    const dialog = h("dialog", { class: "confirm", "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" },
      heading,
      h("p", { id: "dialog-text" }, text),
      h("p", { class: "buttons" },
        h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, action)));
    const close = () => dialog.close();
    signal?.addEventListener("abort", close);
    dialog.addEventListener("close", () => {
      signal?.removeEventListener("abort", close);
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
