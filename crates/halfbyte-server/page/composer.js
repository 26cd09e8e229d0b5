// Where the person writes: the field, its draft, and text files that go along.

import { MAX_TEXT, shownPath } from "./conversation.js";
import { announce, byId, el, fitHeight, focusField, icon, iconButton, readableSize, toast } from "./dom.js";
import { recallDraft, rememberDraft } from "./store.js";

const MOST_FILES = 20;
const MOST_REASONS = 6; // why files cannot go along, in one note
const NEW = "new"; // a conversation without a message gets another id at every visit, so its draft has a name of its own
const LARGEST_FILE = 1_000_000; // bytes; a file beyond this fits into no context that this server could hold

export class Composer {
  /** `oneditlast` is called for the key up in an empty field; `meter` counts what is written. */
  constructor(session, meter, { oneditlast }) {
    Object.assign(this, { session, meter, oneditlast, owner: session.open.id, name: NEW });
    this.filesOf = new Map(); // what goes along with the next message, by the draft's name
    this.dropped = new Map(); // drafts of deleted conversations, which may come back
    this.input = byId("input");
    this.input.maxLength = MAX_TEXT;
    // A phone has no Shift+Enter, so there Enter begins a line, and the button sends.
    this.touch = matchMedia("(pointer: coarse)");
    this.input.enterKeyHint = this.touch.matches ? "enter" : "send";
    this.input.addEventListener("input", () => {
      this.isTyped = true;
      this.written();
    });
    this.input.addEventListener("keydown", (event) => this.key(event));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("stop").addEventListener("click", () => {
      session.stop();
      focusField();
    });
    byId("attach").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", ({ target }) => {
      this.addFiles([...target.files]);
      target.value = "";
    });
    addEventListener("pagehide", () => this.keepDraft());
    session.addEventListener("path", () => this.switched());
    session.addEventListener("running", () => this.drawButtons());
    session.addEventListener("deleted", ({ detail }) => this.dropDraft(detail));
    this.listenToDrops();
    this.drawButtons();
  }

  /** The conversation to begin with is open. What was typed before that stays, behind what was kept. */
  begin() {
    this.owner = this.session.open.id;
    this.name = this.draftName();
    const kept = recallDraft(this.name);
    this.input.value = [kept, this.isTyped ? this.input.value : ""].filter(Boolean).join("\n");
    this.begun = true;
    this.written();
  }

  /** Another conversation is open: its own draft and files come into the field. */
  switched() {
    if (!this.begun) return;
    const name = this.draftName();
    if (this.owner !== this.session.open.id) {
      this.keepDraft();
      this.input.value = recallDraft(name) || (this.dropped.get(name) ?? "");
    } else if (this.name !== name) {
      rememberDraft(this.name, ""); // it has its first message now, and with it a name
      this.filesOf.set(name, this.files);
      this.filesOf.delete(this.name);
    } else {
      return;
    }
    this.owner = this.session.open.id;
    this.name = name;
    this.drawFiles();
    this.written();
  }

  draftName() {
    const { open, conversations } = this.session;
    return conversations.has(open.id) ? open.id : NEW;
  }

  get files() {
    return this.filesOf.get(this.name) ?? [];
  }

  /** Every pause in writing keeps the draft, and so does leaving. */
  keepDraft() {
    clearTimeout(this.timer);
    if (this.begun && !this.session.isDeleted(this.name)) rememberDraft(this.name, this.input.value);
  }

  dropDraft(id) {
    this.dropped.set(id, this.name === id ? this.input.value : recallDraft(id));
    rememberDraft(id, "");
  }

  written() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.keepDraft(), 300);
    fitHeight(this.input);
    this.drawButtons();
    this.meter.count(this.input.value, this.files);
  }

  key(event) {
    if (event.isComposing) return; // Enter then ends a word of an input method
    if (event.key === "Enter" && !event.shiftKey && !event.altKey && !this.touch.matches) {
      event.preventDefault();
      this.send();
    } else if (event.key === "ArrowUp" && this.input.value === "" && this.oneditlast()) {
      event.preventDefault();
    }
  }

  send() {
    const text = this.input.value;
    if (this.session.answer || (text.trim() === "" && this.files.length === 0)) return;
    const { files } = this;
    this.filesOf.delete(this.name);
    this.input.value = "";
    this.keepDraft();
    this.drawFiles();
    this.session.send(text.trim(), files.map(({ name, text: content }) => ({ name, text: content })));
    this.written();
    announce("Sent. The model is answering.");
    focusField();
  }

  /** Sends a text, as the suggestions do. What is in the field stays there. */
  sendText(text) {
    if (this.session.answer) return;
    this.session.send(text);
    announce("Sent. The model is answering.");
    focusField();
  }

  drawButtons() {
    const running = Boolean(this.session.answer);
    const stop = byId("stop");
    const hadFocus = document.activeElement === stop;
    byId("send").hidden = running;
    byId("send").disabled = this.input.value.trim() === "" && this.files.length === 0;
    stop.hidden = !running;
    if (hadFocus && !running) focusField();
    this.meter.show(shownPath(this.session.open));
  }

  async addFiles(files) {
    const { owner } = this; // another conversation may be open when a large file is read
    const refused = [];
    for (const file of files) {
      try {
        const added = { name: file.name.slice(0, 255), size: file.size, text: await readText(file) };
        const name = owner === this.owner ? this.name : this.session.conversations.has(owner) ? owner : NEW;
        const others = this.filesOf.get(name) ?? [];
        if (others.length >= MOST_FILES) throw new Error(`At most ${MOST_FILES} files can go along; ${file.name} does not.`);
        this.filesOf.set(name, [...others, added]);
        announce(`${file.name} goes along with the next message`);
      } catch (error) {
        refused.push(error.message);
      }
    }
    if (refused.length > 0) toast(listed(refused), { seconds: 15 });
    this.drawFiles();
    this.written();
    focusField();
  }

  drawFiles() {
    byId("files").replaceChildren(...this.files.map((file) =>
      el("li", { class: "chip" }, icon("file"), el("span", { class: "chip-name" }, file.name), el("span", { class: "size" }, readableSize(file.size)),
        iconButton("close", `Remove ${file.name}`, () => {
          this.filesOf.set(this.name, this.files.filter((other) => other !== file));
          this.drawFiles();
          this.written();
          focusField();
        }))));
  }

  listenToDrops() {
    let depth = 0; // of elements under the pointer, because leaving a child is no leaving
    const carries = (event) => [...event.dataTransfer.types].includes("Files");
    const mark = () => document.body.classList.toggle("is-dropping", depth > 0);
    addEventListener("dragenter", (event) => {
      if (carries(event)) depth += 1;
      mark();
    });
    addEventListener("dragleave", (event) => {
      if (carries(event)) depth = Math.max(0, depth - 1);
      mark();
    });
    addEventListener("dragover", (event) => carries(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = 0;
      mark();
      this.addFiles([...event.dataTransfer.files]);
    });
  }
}

/** Reasons in one note: of many notes the first ones would be pushed away. */
function listed(reasons) {
  const more = reasons.length - MOST_REASONS;
  const rest = more > 0 ? [`${more} more ${more === 1 ? "file" : "files"} cannot go along either.`] : [];
  return [...reasons.slice(0, MOST_REASONS), ...rest].join("\n");
}

/** The text of a file. Throws an Error that says why it cannot go along. */
async function readText(file) {
  if (file.size > LARGEST_FILE) {
    throw new Error(`${file.name} has ${readableSize(file.size)}; at most ${readableSize(LARGEST_FILE)} can go along. Send a part of it.`);
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return text.replaceAll("\r\n", "\n");
  } catch {
    // told below
  }
  throw new Error(`${file.name} is not a text file in UTF-8. Save its text as such, and try again.`);
}
