// Draws the open conversation. A row stays as long as its message is shown, so that only what changed is drawn.

import { speedOf } from "./answer.js";
import { MAX_TEXT, contentOf, shownPath, siblings } from "./conversation.js";
import { announce, copyButton, el, fitHeight, focusField, icon, iconButton, readableSize } from "./dom.js";
import { MarkdownView } from "./markdown-view.js";

const NEAR_END = 80; // pixels: who is this near the end wants to follow it

const LONG = 2000; // characters of a message of the person

export class Messages {
  /** `scroller` scrolls, `list` holds the rows, `jump` is the button to the end. `onkey` asks for a key. */
  constructor(session, { scroller, list, jump }, onkey) {
    Object.assign(this, { session, scroller, list, jump, onkey, rows: new Map(), edits: new WeakMap(), shown: null, timer: 0 });
    session.addEventListener("path", () => this.draw());
    session.addEventListener("piece", ({ detail }) => this.grow(detail));
    session.addEventListener("running", ({ detail }) => this.answering(detail));
    scroller.addEventListener("scroll", () => this.showJump(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    this.following = true;
  }

  draw() {
    const { open } = this.session;
    const another = open !== this.shown;
    if (another) {
      // An edit that is open stays so, until one comes back.
      const edited = [...this.rows].filter(([, row]) => row.editing);
      if (this.shown) this.edits.set(this.shown, edited);
      this.rows = new Map(this.edits.get(open));
    }
    this.shown = open;
    const path = shownPath(open);
    const rows = path.map((index) => {
      if (!this.rows.has(index)) this.rows.set(index, new Row(this, index));
      return this.rows.get(index);
    });
    rows.forEach((row, at) => row.update(at === rows.length - 1));
    const elements = rows.map((row) => row.element);
    const same = elements.length === this.list.children.length && elements.every((element, at) => element === this.list.children[at]);
    if (!same) this.list.replaceChildren(...elements);
    document.body.classList.toggle("is-empty", path.length === 0);
    if (another || this.following) this.toEnd();
    else this.showJump();
  }

  /** A message grew. Drawing is put off for longer, the longer it takes, so that a huge answer leaves time for the rest. */
  grow(index) {
    if (this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      const row = this.rows.get(index);
      if (!row) return; // another conversation was opened meanwhile
      const began = performance.now();
      const follow = this.following;
      row.update(index === shownPath(this.session.open).at(-1));
      if (follow) this.toEnd();
      else this.showJump();
      this.pause = Math.min((performance.now() - began) * 4, 2000);
    }, Math.max(this.pause ?? 0, 30));
  }

  /** An answer began, or `answer` ended. */
  answering(answer) {
    clearInterval(this.clock);
    // A long prompt takes its time, and the seconds show that something happens.
    if (this.session.answer) this.clock = setInterval(() => this.rows.get(this.session.answer?.index)?.drawStats(), 1000);
    if (!answer || answer.conversation !== this.session.open) return;
    clearTimeout(this.timer);
    this.timer = 0;
    this.draw();
    const { message } = answer;
    // The whole answer once, at its end: a live region that spoke every word would never be silent.
    announce(message.error && message.state !== "done" ? message.error : `Answer: ${message.text.slice(0, 3000)}`);
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.following = true;
    this.jump.hidden = true;
  }

  showJump() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    this.jump.hidden = this.following;
  }

  /** Lets the last message of the person be edited. */
  editLast() {
    const last = shownPath(this.session.open).findLast((index) => this.session.open.messages[index].role === "user");
    if (last === undefined || this.session.answer) return false;
    this.rows.get(last).edit();
    return true;
  }

  /** Shows the branch of `index`, and leaves the focus on the arrow that was used. */
  choose(index, arrow) {
    this.following = false;
    this.session.choose(index);
    const buttons = this.rows.get(index).element.querySelectorAll(".branches button");
    const [wanted, other] = arrow === "next" ? [buttons[1], buttons[0]] : buttons;
    (wanted.disabled ? other : wanted).focus();
    announce(`Version ${siblings(this.session.open, index).indexOf(index) + 1}`);
  }
}

/** One message on the page. */
class Row {
  constructor(messages, index) {
    Object.assign(this, { messages, index, session: messages.session });
    this.conversation = this.session.open;
    this.message = this.conversation.messages[index];
    const own = this.message.role === "user";
    const long = own && this.message.text.length > LONG; // scrolls by itself, so that the answer is not far away
    this.body = el("div", { class: own ? "body own" : "body prose", ...(long && { tabindex: "0", role: "group", "aria-label": "Your message" }) });
    this.notes = el("div", { class: "notes" });
    this.foot = el("div", { class: "foot" });
    this.element = el("article", { class: own ? "message from-user" : "message from-model" },
      el("h2", { class: "visually-hidden" }, own ? "You said" : "The model said"),
      ...this.message.files.map(fileView), this.body, this.notes, this.foot);
    if (own) this.body.textContent = this.message.text;
    else this.markdown = new MarkdownView(this.body);
    this.body.hidden = own && this.message.text === "";
  }

  update(last) {
    const { message, element } = this;
    const running = message.state === "running";
    element.classList.toggle("is-last", last);
    element.classList.toggle("is-running", running);
    element.classList.toggle("is-waiting", running && message.text === "");
    this.markdown?.update(message.text);
    // What stands below changes seldom; drawing it anew for every word would also take the focus from it.
    const count = siblings(this.conversation, this.index).length;
    const busy = Boolean(this.session.answer);
    const key = JSON.stringify([message.state, message.error, count, busy, last]);
    if (this.drawn !== key) {
      this.drawn = key;
      this.notes.replaceChildren(...this.noteParts(busy));
      if (!this.editing) this.foot.replaceChildren(...this.footParts(running, busy).filter(Boolean));
    }
    this.drawStats();
  }

  drawStats() {
    const { message } = this;
    const shown = this.foot.querySelector(".stats");
    if (!shown) return;
    const waited = Math.floor((Date.now() - (this.session.answer?.began ?? Date.now())) / 1000);
    if (message.state === "running" && message.text === "") {
      shown.textContent = waited > 1 ? `Reading, ${waited} s` : "";
      return;
    }
    const speed = speedOf(message.usage);
    const parts = [message.usage ? `${message.usage.answer} tokens` : "", speed ? `${speed.toFixed(speed < 10 ? 1 : 0)} tokens/s` : ""];
    if (message.state === "stopped") parts.unshift("Stopped");
    if (message.leftOut > 0) parts.push(`without the oldest ${message.leftOut === 1 ? "message" : `${message.leftOut} messages`}`);
    shown.textContent = parts.filter(Boolean).join(" · ");
  }

  footParts(running, busy) {
    const { message } = this;
    if (running) return [el("span", { class: "stats" })];
    const parts = [this.branches(busy)];
    if (message.text !== "" || message.files.length > 0) {
      parts.push(copyButton("Copy message", () => message.text || contentOf(message)));
      parts.push(iconButton("edit", "Edit message", () => this.edit(), { disabled: busy }));
    }
    // An answer that was stopped before its first word, too; one that failed there has a button of its own.
    if (message.role === "assistant" && (message.text !== "" || ["stopped", "done"].includes(message.state))) {
      parts.push(iconButton("again", "Regenerate answer", () => this.again(), { disabled: busy }));
      parts.push(el("span", { class: "stats" }));
    }
    return parts;
  }

  /** The arrows between versions of this message, when there are several. */
  branches(busy) {
    const all = siblings(this.conversation, this.index);
    if (all.length < 2) return null;
    const at = all.indexOf(this.index);
    const to = (place, arrow) => () => this.messages.choose(all[place], arrow);
    return el("span", { class: "branches", role: "group", "aria-label": "Versions" },
      iconButton("left", "Previous version", to(at - 1, "previous"), { disabled: busy || at === 0 }),
      el("span", { class: "count" }, `${at + 1}/${all.length}`),
      iconButton("right", "Next version", to(at + 1, "next"), { disabled: busy || at === all.length - 1 }));
  }

  noteParts(busy) {
    const { message, session } = this;
    if (!message.error) return [];
    if (message.state === "done") return [el("p", { class: "note" }, message.error)];
    const again = el("button", { type: "button", class: "button", disabled: busy, onclick: () => this.again() }, icon("again"), "Try again");
    const buttons = [again];
    if (message.problem === "full" && !session.open.trim) {
      const trim = () => {
        session.configure({ trim: true });
        this.again();
      };
      buttons.push(el("button", { type: "button", class: "button", disabled: busy, onclick: trim }, "Leave out the oldest messages"));
    }
    if (message.problem === "key") {
      buttons.push(el("button", { type: "button", class: "button", onclick: this.messages.onkey }, icon("key"), "Enter the key"));
    }
    return [el("div", { class: "problem" }, icon("alert"), el("p", {}, message.error), el("div", { class: "buttons" }, ...buttons))];
  }

  again() {
    this.session.regenerate(this.index);
    announce("The model is answering again.");
    focusField(); // the button that had the focus is gone
  }

  edit() {
    if (this.editing || this.session.answer) return;
    this.editing = true;
    const own = this.message.role === "user";
    const field = el("textarea", { class: "edit-field", "aria-label": "Edit message", rows: "2", maxlength: MAX_TEXT });
    field.value = this.message.text;
    const close = () => {
      this.editing = false;
      focusField(); // what had the focus is gone
      form.replaceWith(this.body);
      this.foot.replaceChildren(...this.footParts(false, Boolean(this.session.answer)).filter(Boolean));
      this.drawStats();
    };
    const submit = () => {
      close();
      if (field.value.trim() !== "" && field.value !== this.message.text) this.session.edit(this.index, field.value);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        if (!event.isComposing) close();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && own) {
        event.preventDefault();
        submit();
      }
    });
    const form = el("div", { class: "edit" }, field, el("div", { class: "buttons" },
      el("button", { type: "button", class: "button", onclick: close }, "Cancel"),
      el("button", { type: "button", class: "button primary", onclick: submit }, own ? "Send" : "Save")));
    this.body.replaceWith(form);
    this.foot.replaceChildren();
    field.addEventListener("input", () => fitHeight(field));
    fitHeight(field);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}

function fileView(file) {
  return el("details", { class: "file" },
    el("summary", {}, icon("file"), file.name, el("span", { class: "size" }, readableSize(new Blob([file.text]).size))),
    el("pre", { tabindex: "0" }, file.text));
}
