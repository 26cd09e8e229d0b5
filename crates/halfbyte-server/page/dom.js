// Small helpers to build elements. Text always becomes text nodes: nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Builds an element. `on…` properties become listeners, `true` an empty attribute, and `false`,
 * `null` or `undefined` leave the attribute out. Strings among the children become text.
 */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The drawing `name` out of the sprite in index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows only an icon; `label` is its name for screen readers and the tooltip. */
export function iconButton(name, label, onclick, properties = {}) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...properties }, icon(name));
}

export const byId = (id) => document.getElementById(id);

/** Lets the person write on. On a touch screen that would open the keyboard over the answer, so only the focus is kept somewhere. */
export function focusField() {
  byId(matchMedia("(pointer: coarse)").matches ? "scroller" : "input").focus({ preventScroll: true });
}

/** Copies to the clipboard. The modern way exists only on https and localhost, so there is the old one too. */
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = el("textarea", { class: "visually-hidden", "aria-hidden": "true", tabindex: "-1" });
  const focused = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  if (!copied) throw new Error("the browser refused to copy");
}

/** A button that copies what `text()` gives and says so for a moment. */
export function copyButton(label, text, properties = {}) {
  const button = iconButton("copy", label, async () => {
    let done = true;
    try {
      await copyText(text());
    } catch {
      done = false;
    }
    button.replaceChildren(icon(done ? "check" : "alert"));
    announce(done ? "Copied" : "The browser did not allow copying");
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  }, properties);
  return button;
}

/** Makes a field as high as its text, where the style sheet's `field-sizing` is not known. */
export function fitHeight(field) {
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

/** Tells screen readers, without moving the focus. */
export function announce(text) {
  byId("announce").textContent = text;
}

/**
 * Shows a note at the edge of the page for some seconds, with one possible action.
 * It stays while the pointer or the focus is on it, so that nobody has to hurry.
 */
export function toast(text, { action, onaction, seconds = 8 } = {}) {
  const note = el("div", { class: "toast", role: "status" }, el("span", {}, text));
  const close = () => note.remove();
  if (action) {
    note.append(el("button", { type: "button", class: "link-button", onclick: () => { close(); onaction(); } }, action));
  }
  note.append(iconButton("close", "Dismiss", close));
  byId("toasts").append(note);
  while (byId("toasts").children.length > 3) byId("toasts").firstElementChild.remove();
  const leave = () => (note.matches(":hover, :focus-within") ? setTimeout(leave, 2000) : close());
  setTimeout(leave, seconds * 1000);
}

/** "1.4 kB", for people. */
export function readableSize(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
