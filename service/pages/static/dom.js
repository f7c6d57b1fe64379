// Helpers for the document. Data from people or the service is written as text only, never as HTML.

/** Return a copy of a <template>'s first element, and its elements with data-slot by name. */
export function stamp(id) {
  const root = document.getElementById(id).content.firstElementChild.cloneNode(true);
  const slots = {};
  for (const element of root.querySelectorAll("[data-slot]")) slots[element.dataset.slot] = element;
  return [root, slots];
}

/** Make an element with text or children. */
export function make(tag, content = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...[content].flat());
  return element;
}

/** Replace the children of `parent`. A focused link passes the focus on to its successor. */
export function renew(parent, children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  parent.replaceChildren(...children);
  if (focused) [...parent.querySelectorAll("a")].find(link => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
}

const status = document.getElementById("status");
const error = document.getElementById("error");

/** Let screen readers read a text aloud. */
export function announce(text) {
  status.textContent = text;
}

/** Show a sentence about what went wrong; "" removes it. */
export function complain(sentence) {
  error.textContent = sentence;
}
