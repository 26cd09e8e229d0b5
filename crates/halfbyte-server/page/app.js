// Starts the page: makes its parts known to each other, and listens to the keys.

import { listModels } from "./api.js";
import { Composer } from "./composer.js";
import { shownPath } from "./conversation.js";
import { byId, el, focusField, toast } from "./dom.js";
import { Messages } from "./messages.js";
import { Meter } from "./meter.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { openStore } from "./store.js";

const session = new Session();
const settings = new Settings(session, keyEntered);
const messages = new Messages(session, { scroller: byId("scroller"), list: byId("messages"), jump: byId("jump") }, () => settings.askKey());
const meter = new Meter(session);
const composer = new Composer(session, meter, { oneditlast: () => messages.editLast() });
const sidebar = new Sidebar(session);

/** Asks which models there are. It is asked again when a key is entered, and when the window is looked at again. */
async function connect() {
  try {
    const models = await listModels();
    showModels(models);
    byId("connection").hidden = true;
  } catch (error) {
    byId("model").textContent = "not connected";
    byId("connection-text").textContent = `${error.title ?? "The page failed."} ${error.advice ?? error.message}`;
    byId("connection").hidden = false;
    if (error.kind === "key") settings.askKey();
  }
  composer.drawButtons();
}

/** Connects with another key, and asks again what was refused for the lack of one. */
async function keyEntered() {
  await connect();
  const last = shownPath(session.open).at(-1);
  const refused = last !== undefined && session.open.messages[last].problem === "key";
  if (refused && byId("connection").hidden && !session.answer) session.regenerate(last);
}

function showModels(models) {
  const chosen = models.find((model) => model.id === session.model.id) ?? models[0];
  session.model = chosen;
  byId("model").title = chosen.about;
  if (models.length === 1) {
    byId("model").textContent = chosen.id;
    return;
  }
  const options = models.map((model) => el("option", { value: model.id, selected: model === chosen }, model.id));
  const select = el("select", { "aria-label": "Model" }, ...options);
  select.addEventListener("change", () => {
    session.model = models.find((model) => model.id === select.value);
    composer.drawButtons();
  });
  byId("model").replaceChildren(select);
}

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey;
    const pressed = event.key.toLowerCase();
    if (document.querySelector("dialog[open]")) return; // a dialog has its own keys
    if (event.isComposing) return; // Escape then ends a word of an input method
    if (event.key === "Escape") {
      if (event.target.id === "search" && event.target.value !== "") return; // and here it clears the field
      if (!sidebar.closeCover()) session.stop();
    } else if (command && event.key === "/") {
      byId("help").showModal();
    } else if (command && event.shiftKey && pressed === "o") {
      sidebar.startNew();
    } else if (command && !event.shiftKey && pressed === "k") {
      sidebar.search();
    } else {
      return;
    }
    event.preventDefault();
  });
}

/** Says truly where a text goes: this page also works over a network. */
function showWhere() {
  const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  byId("where").textContent = here
    ? "The model runs on this machine. Nothing you write leaves it."
    : `The model runs on ${location.hostname}. What you write goes there, and nowhere else.`;
}

function listenToButtons() {
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("reconnect").addEventListener("click", connect);
  for (const button of document.querySelectorAll("[data-suggestion]")) {
    button.addEventListener("click", () => composer.sendText(button.textContent.trim()));
  }
  session.addEventListener("running", ({ detail }) => {
    const kind = detail?.failure?.kind;
    if (kind === "key") settings.askKey();
    if (kind === "refused") connect(); // the server may have been started again with another model
  });
  const told = new Set();
  session.addEventListener("unkept", ({ detail }) => {
    const what = session.open.id === detail ? "this conversation" : `“${session.conversations.get(detail)?.title || "Untitled"}”`;
    const text = `The browser did not keep ${what}: it has no room, or forbids storage. Export what you need before you close the page.`;
    if (!told.has(detail)) toast(text, { seconds: 30 });
    told.add(detail);
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && !byId("connection").hidden) connect();
  });
}

async function start() {
  showWhere();
  listenToKeys();
  listenToButtons();
  const stored = await openStore();
  const damaged = await session.load();
  if (damaged === 1) toast("1 kept conversation could not be read and is not shown.");
  if (damaged > 1) toast(`${damaged} kept conversations could not be read and are not shown.`);
  if (!stored) toast("This browser keeps nothing for this page. Export what you need before you close it.");
  session.show(session.lastOpen());
  composer.begin();
  if ([document.body, null].includes(document.activeElement)) focusField(); // before a slow server answers
  await connect();
  document.body.classList.add("is-ready");
}

start();
