// Creation of elements. Text is always text: no function here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Props are attributes, `on<event>` functions and `class`; null, undefined and false are left out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Replace all children of a node. */
export function replace(node, ...children) {
  node.replaceChildren(...nodes(children));
  return node;
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function" && name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name.startsWith("on") || name === "style" || name === "srcdoc") throw new Error(`not an attribute: ${name}`);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
