// Where the person writes: the field, its draft, and text files that go along.

import { MAX_TEXT, shownPath } from "./conversation.js";
import { announce, byId, el, fitHeight, focusField, icon, iconButton, readableSize, toast } from "./dom.js";
import { recallDraft, rememberDraft } from "./store.js";

const MOST_FILES = 20;
const LARGEST_FILE = 1_000_000; // bytes; a file beyond this fits into no context that this server could hold

export class Composer {
  /** `oneditlast` is called for the key up in an empty field; `meter` counts what is written. */
  constructor(session, meter, { oneditlast }) {
    Object.assign(this, { session, meter, oneditlast, files: [], owner: session.open.id });
    this.input = byId("input");
    this.input.maxLength = MAX_TEXT;
    // A phone has no Shift+Enter, so there Enter begins a line, and the button sends.
    this.touch = matchMedia("(pointer: coarse)");
    this.input.enterKeyHint = this.touch.matches ? "enter" : "send";
    this.input.addEventListener("input", () => this.written());
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
    this.listenToDrops();
    this.switched(true);
  }

  /** Another conversation is open: its own draft comes into the field. */
  switched(first = false) {
    if (!first && this.owner === this.session.open.id) return;
    if (!first) this.keepDraft();
    this.owner = this.session.open.id;
    this.files = [];
    this.input.value = recallDraft(this.draftName());
    this.drawFiles();
    this.written();
    this.drawButtons();
  }

  /** A conversation that has no message yet gets another name at every visit, so its draft has a fixed one. */
  draftName() {
    return this.session.conversations.has(this.owner) ? this.owner : "new";
  }

  /** Every pause in writing keeps the draft, and so does leaving. */
  keepDraft() {
    clearTimeout(this.timer);
    rememberDraft(this.draftName(), this.input.value);
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
    this.files = [];
    this.input.value = "";
    this.keepDraft();
    this.drawFiles();
    this.session.send(text.trim(), files.map(({ name, text: content }) => ({ name, text: content })));
    this.written();
    announce("Sent. The model is answering.");
    focusField();
  }

  /** Puts a text into the field, as the suggestions do, and sends it. */
  sendText(text) {
    this.input.value = text;
    this.send();
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
    for (const file of files) {
      try {
        if (this.files.length >= MOST_FILES) throw new Error(`At most ${MOST_FILES} files can go along; ${file.name} does not.`);
        this.files.push({ name: file.name.slice(0, 255), size: file.size, text: await readText(file) });
        announce(`${file.name} goes along with the next message`);
      } catch (error) {
        toast(error.message, { seconds: 15 });
      }
    }
    this.drawFiles();
    this.written();
    focusField();
  }

  drawFiles() {
    byId("files").replaceChildren(...this.files.map((file) =>
      el("li", { class: "chip" }, icon("file"), el("span", { class: "chip-name" }, file.name), el("span", { class: "size" }, readableSize(file.size)),
        iconButton("close", `Remove ${file.name}`, () => {
          this.files = this.files.filter((other) => other !== file);
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
