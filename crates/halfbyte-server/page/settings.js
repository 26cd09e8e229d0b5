// The settings of the open conversation, the theme, and the key for the server.

import { useKey } from "./api.js";
import { MAX_TEXT, SAMPLING } from "./conversation.js";
import { byId, el, toast } from "./dom.js";
import { recall, remember } from "./store.js";

const KEY = /^[ -~]*$/; // a header can carry nothing else

export class Settings {
  /** `onkey` is called when another key was entered. */
  constructor(session, onkey) {
    Object.assign(this, { session, onkey, dialog: byId("settings") });
    this.fields = SAMPLING.map((setting) => samplingField(setting, () => this.keep()));
    byId("sampling").append(...this.fields.map((field) => field.element));
    byId("system").maxLength = MAX_TEXT;
    byId("system").addEventListener("input", () => this.keep());
    byId("trim").addEventListener("change", () => this.keep());
    byId("reset").addEventListener("click", () => this.reset());
    byId("settings-open").addEventListener("click", () => this.show());
    for (const choice of byId("themes").querySelectorAll("input")) {
      choice.addEventListener("change", () => setTheme(choice.value));
    }
    byId("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
    const stored = recall("key") ?? recall("key", () => sessionStorage);
    if (typeof stored === "string") this.takeKey(stored);
    byId("keep-key").checked = recall("key") !== null;
    for (const id of ["key", "keep-key"]) byId(id).addEventListener("change", () => this.enterKey());
    byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
    byId("key-form").addEventListener("submit", () => {
      byId("key").value = byId("key-asked").value;
      byId("keep-key").checked = byId("keep-key-asked").checked;
      this.enterKey();
    });
  }

  show() {
    const { system, sampling, trim } = this.session.open;
    byId("system").value = system;
    byId("trim").checked = trim;
    for (const { input, setting } of this.fields) input.value = sampling[setting.name] ?? "";
    for (const field of this.fields) field.check();
    const theme = recall("theme") ?? "system";
    for (const choice of byId("themes").querySelectorAll("input")) choice.checked = choice.value === theme;
    this.dialog.showModal();
  }

  /** Keeps what is entered; what is out of its limits is marked and not kept. */
  keep() {
    const sampling = {};
    for (const field of this.fields) {
      if (field.check() && field.input.value !== "") sampling[field.setting.name] = field.input.valueAsNumber;
    }
    this.session.configure({ system: byId("system").value, sampling, trim: byId("trim").checked });
  }

  reset() {
    for (const { input } of this.fields) input.value = "";
    byId("system").value = "";
    byId("trim").checked = false;
    this.keep();
  }

  /** Asks for the key, when the server wants one. */
  askKey() {
    byId("key-asked").value = byId("key").value;
    if (!byId("key-dialog").open) byId("key-dialog").showModal();
    byId("key-asked").select();
  }

  /** Uses a key. False if it can be none. */
  takeKey(key) {
    if (!KEY.test(key)) {
      toast("A key has letters, digits and signs of ASCII only. This one was not taken.", { seconds: 15 });
      return false;
    }
    byId("key").value = key;
    useKey(key);
    return true;
  }

  /** A key lasts as long as this tab, or until it is removed, as the person chose. */
  enterKey() {
    const key = byId("key").value.trim();
    if (!this.takeKey(key)) return;
    const lasting = byId("keep-key").checked;
    remember("key", lasting && key ? key : null);
    remember("key", !lasting && key ? key : null, () => sessionStorage);
    this.onkey();
  }
}

function samplingField(setting, onchange) {
  const { name, label, usual, min, max, step, hint } = setting;
  const input = el("input", { id: `set-${name}`, type: "number", min, max, step: step === 1 ? 1 : "any", inputmode: "decimal",
    placeholder: usual ?? (name === "seed" ? "random" : ""), "aria-describedby": `hint-${name}`, oninput: onchange });
  const note = el("p", { class: "hint", id: `hint-${name}` }, hint);
  const element = el("div", { class: "field" }, el("label", { for: input.id }, label), input, note);
  const check = () => {
    const fits = input.checkValidity();
    input.setAttribute("aria-invalid", String(!fits));
    const limits = max >= 1e6 ? `from ${min}` : `from ${min} to ${max}`;
    note.textContent = fits ? hint : `${step === 1 ? "A whole number" : "A number"} ${limits}, please.`;
    return fits;
  };
  return { setting, input, element, check };
}

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  remember("theme", theme === "system" ? null : theme);
}
