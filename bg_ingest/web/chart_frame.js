// Frame of a chart: one tab stop, a cursor that arrow keys move, a spoken value and a table.

import { h, replace, svg } from "./dom.js";

const PAGE_STEPS = 12;
const NO_CURSOR = -1;

/**
 * Build the frame of a chart.
 *
 * `draw(width, height)` returns `{nodes, position}`; `position(item)` is the point `{x, y}` of the cursor.
 * Items are `{key, text, cells}` in the order of the cursor: `text` is spoken, `cells` is the row of the table.
 */
export function chartFrame({ label, className, columns, draw }) {
  let items = [];
  let index = NO_CURSOR;
  let position = () => null;

  const picture = svg("svg", { "aria-hidden": "true", focusable: "false" });
  const cursor = svg("g", { class: "chart-cursor" });
  const plot = h(
    "div",
    {
      class: "chart-plot",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "chart",
      "aria-label": `${label}. Arrow keys move along it, T shows its table.`,
      "aria-keyshortcuts": "ArrowLeft ArrowRight Home End T",
    },
    picture,
  );
  const readout = h("span", { class: "chart-readout", "aria-hidden": "true" });
  const spoken = h("span", { class: "visually-hidden", "aria-live": "polite" });
  const body = h("tbody", {});
  const table = h(
    "div",
    { class: "chart-table", tabindex: "0", role: "region", "aria-label": `Table: ${label}` },
    h(
      "table",
      {},
      h("caption", { class: "visually-hidden" }, label),
      h("thead", {}, h("tr", {}, ...columns.map((name) => h("th", { scope: "col" }, name)))),
      body,
    ),
  );
  table.hidden = true;
  // The chart is one tab stop: the key T does the same as this button.
  const button = h(
    "button",
    { type: "button", class: "chart-table-button", tabindex: "-1", "aria-pressed": "false", onclick: toggleTable },
    "Table (T)",
  );
  const element = h(
    "div",
    { class: `chart ${className}`, onkeydown: pressed },
    plot,
    h("div", { class: "chart-foot" }, readout, button),
    spoken,
    table,
  );

  function fillTable() {
    if (table.hidden) return;
    const rows = items.map(({ cells }) =>
      h("tr", {}, ...cells.map((cell, i) => h(i ? "td" : "th", i ? {} : { scope: "row" }, cell))),
    );
    replace(body, ...rows);
  }

  function toggleTable() {
    table.hidden = !table.hidden;
    button.setAttribute("aria-pressed", String(!table.hidden));
    fillTable();
  }

  function showCursor() {
    const item = items[index];
    const at = item ? position(item) : null;
    readout.textContent = item ? item.text : "";
    replace(cursor);
    if (!at) return;
    const height = plot.clientHeight;
    cursor.append(svg("line", { x1: at.x, x2: at.x, y1: 0, y2: height }));
    if (at.y !== null) cursor.append(svg("circle", { cx: at.x, cy: at.y, r: 5 }));
  }

  function moveTo(next) {
    index = items.length ? Math.min(Math.max(next, 0), items.length - 1) : NO_CURSOR;
    showCursor();
    spoken.textContent = items[index]?.text ?? "";
  }

  function pressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key.toLowerCase() === "t") toggleTable();
    else if (event.target !== plot) return;
    else if (event.key === "ArrowLeft") moveTo(index === NO_CURSOR ? items.length - 1 : index - 1);
    else if (event.key === "ArrowRight") moveTo(index + 1);
    else if (event.key === "PageUp") moveTo(index === NO_CURSOR ? items.length - 1 : index - PAGE_STEPS);
    else if (event.key === "PageDown") moveTo(index + PAGE_STEPS);
    else if (event.key === "Home") moveTo(0);
    else if (event.key === "End") moveTo(items.length - 1);
    else return;
    event.preventDefault();
  }

  plot.addEventListener("pointermove", (event) => {
    const x = event.clientX - plot.getBoundingClientRect().left;
    const distances = items.map((item) => Math.abs((position(item)?.x ?? Infinity) - x));
    index = distances.indexOf(Math.min(...distances));
    showCursor();
  });
  plot.addEventListener("pointerleave", () => {
    index = NO_CURSOR;
    showCursor();
  });

  function redraw() {
    const { clientWidth: width, clientHeight: height } = plot;
    if (!width || !height) return;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const drawn = draw(width, height);
    position = drawn.position;
    replace(picture, ...drawn.nodes, cursor);
    showCursor();
  }
  new ResizeObserver(redraw).observe(plot);

  /** Replace the items. The cursor stays at its item. */
  function update(next) {
    const key = items[index]?.key;
    items = next;
    index = key === undefined ? NO_CURSOR : items.findIndex((item) => item.key === key);
    redraw();
    fillTable();
  }

  return { element, update };
}
