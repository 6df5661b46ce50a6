// Reference of the API: search, and a form in each article that sends its request. The document is complete without it.

import { h, replace } from "./dom.js";
import { credential, forget } from "./session.js";
import { tryForm } from "./try_request.js";

const articles = [...document.querySelectorAll("article[data-method]")];
const nav = document.querySelector(".reference nav");
const words = new Map(articles.map((article) => [article, article.textContent.toLowerCase()]));

/** Show the routes that contain every word of a text, in the navigation and in the document. */
function search(text, status) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = articles.filter((article) => wanted.every((word) => words.get(article).includes(word)));
  for (const article of articles) {
    article.hidden = !found.includes(article);
    nav.querySelector(`a[href="#${article.id}"]`).parentElement.hidden = article.hidden;
  }
  for (const list of nav.querySelectorAll("ul")) {
    list.hidden = [...list.children].every((item) => item.hidden);
    list.previousElementSibling.hidden = list.hidden;
  }
  for (const section of document.querySelectorAll(".reference section")) {
    section.hidden = [...section.querySelectorAll("article")].every((article) => article.hidden);
  }
  status.textContent = wanted.length ? `${found.length} of ${articles.length} routes` : "";
}

function searchForm() {
  const status = h("p", { role: "status", class: "found" });
  const field = h("input", { id: "search", type: "search", autocomplete: "off", spellcheck: "false", oninput: () => search(field.value, status) });
  return h("div", { role: "search" }, h("label", { for: "search" }, "Search routes"), field, status);
}

/** State of the credential, by which the requests of this page are sent. */
function credentialLine() {
  const line = h("p", { class: "credential" });
  const show = () => {
    const forgetKey = h("button", { type: "button", onclick: () => (forget(), show()) }, "Forget key");
    const signIn = h("a", { href: "/" }, "sign in on the start page");
    if (credential()) replace(line, "Try it sends the requests with the key of this tab. ", forgetKey);
    else replace(line, "Try it sends the requests without a key. If the service asks for one, ", signIn, " in this tab.");
  };
  show();
  return line;
}

/** A target that the search hides is shown again. */
function showTarget() {
  const target = document.getElementById(location.hash.slice(1));
  const field = document.getElementById("search");
  if (!target?.hidden) return;
  field.value = "";
  field.dispatchEvent(new Event("input"));
  target.scrollIntoView();
}

nav.prepend(searchForm());
document.querySelector(".reference").before(credentialLine());
for (const article of articles) {
  const place = h("details", { class: "try" }, h("summary", {}, "Try it", h("span", { class: "hidden-text" }, `: ${article.querySelector("h3").textContent}`)));
  place.addEventListener("toggle", () => place.children.length > 1 || place.append(tryForm(article)));
  article.querySelector(".description").after(place);
}
window.addEventListener("hashchange", showTarget);
