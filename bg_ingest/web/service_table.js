// Tables and lists of facts of the service view.
import { h } from "./dom.js";

/** Table with a caption; the first cell of a row is its header. An empty table is a sentence. */
export function table(caption, columns, rows, empty, width = "") {
  if (rows.length === 0) return h("p", { class: "service-empty" }, `${caption}: ${empty}`);
  const head = h("tr", {}, ...columns.map((column) => h("th", { scope: "col" }, column)));
  const body = rows.map(([first, ...others]) =>
    h("tr", {}, h("th", { scope: "row" }, first), ...others.map((cell) => h("td", {}, cell))),
  );
  const element = h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, ...body));
  return h("div", { class: `service-table ${width}`, tabindex: "0", role: "region", "aria-label": caption }, element);
}

/** Terms and values. */
export function facts(entries) {
  const pairs = entries.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value)));
  return h("dl", { class: "service-facts" }, ...pairs);
}

function isAlike(first, second) {
  return first.nodeType === second.nodeType && first.nodeName === second.nodeName;
}

/** Make the children of `current` those of `next` in place, so that focus and scroll positions stay. */
export function patch(current, next) {
  const wanted = [...next.childNodes];
  while (current.childNodes.length > wanted.length) current.lastChild.remove();
  wanted.forEach((node, index) => {
    const there = current.childNodes[index];
    if (!there) current.append(node);
    else if (!isAlike(there, node)) there.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) {
      if (there.data !== node.data) there.data = node.data;
    } else {
      for (const { name, value } of node.attributes) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
      patch(there, node);
    }
  });
}
