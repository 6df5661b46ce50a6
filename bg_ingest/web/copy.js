// Button that copies the text of an element.
import { h } from "./dom.js";

const CONFIRMATION_MILLISECONDS = 2_000;

/** The clipboard exists only on https and localhost. Elsewhere the text is selected, ready for Ctrl+C. */
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    return "Selected: press Ctrl+C";
  }
}

export function copyButton(source, label, text = "Copy as curl") {
  const result = h("span", { class: "copy-result", role: "status" });
  const button = h("button", { type: "button", "aria-label": label }, text);
  button.addEventListener("click", async () => {
    result.textContent = await copy(source);
    setTimeout(() => {
      result.textContent = "";
    }, CONFIRMATION_MILLISECONDS);
  });
  return h("span", { class: "copy" }, button, result);
}
