// Control "as of" a date.

import { h } from "./dom.js";
import { browserOffset, dateAt } from "./scales.js";

/** Form of a date: `onChange({date, known})` follows each change; `date` is null for now. */
export function asOfForm({ date, known, onChange }) {
  const today = dateAt(Date.now(), browserOffset(Date.now()));
  const field = h("input", { type: "date", id: "as-of", max: today, min: "1970-01-02", onchange: changed });
  const box = h("input", { type: "checkbox", id: "as-of-known", checked: known, onchange: changed });
  const back = h("button", { type: "button", onclick: clear }, "Back to now");
  const option = h("label", { for: "as-of-known", class: "as-of-known" }, box, "only what was known then");
  const element = h("form", { class: "as-of", onsubmit: (event) => event.preventDefault() }, h("label", { for: "as-of" }, "As of"), field, option, back);
  if (/^\d{4}-\d\d-\d\d$/.test(date ?? "")) field.value = date;

  function choice() {
    return { date: field.value || null, known: box.checked };
  }

  function changed() {
    if (field.checkValidity()) onChange(choice());
  }

  function clear() {
    field.value = "";
    box.checked = false;
    field.focus();
    onChange(choice());
  }

  /** Show the controls of a past date. */
  function setPast(isPast) {
    option.hidden = !isPast;
    back.hidden = !isPast;
  }

  setPast(false);
  return { element, choice, setPast };
}
