// What the page is about: the conversations, which one is open, and the answers being written.
// It knows no elements; views listen to its events:
//   "list"    conversations came, went, or changed their names
//   "path"    the shown messages are others than before
//   "piece"   a message of the open conversation grew (detail: its index)
//   "running" an answer began or ended (detail: the answer that ended, or null)
//   "deleted" a conversation was deleted, here or in another window (detail: its id)
//   "unkept"  the browser did not keep a conversation (detail: its id)

import { Answer } from "./answer.js";
import { addMessage, checkedConversation, checkedSampling, choose, cutOff, later, newConversation, shownPath } from "./conversation.js";
import { merge } from "./merge.js";
import { load, loadAll, recall, remember, remove, save } from "./store.js";
import { Windows } from "./windows.js";

const SAVE_EVERY = 1500; // milliseconds between two savings of a growing answer

export class Session extends EventTarget {
  constructor() {
    super();
    this.conversations = new Map();
    this.answers = new Map(); // by the conversation's id
    this.deleted = new Set();
    this.stored = new Set(); // what was in the store when it was last looked at; what is missing there now was deleted
    this.model = { id: "", contextLength: null };
    this.open = this.blank();
    this.windows = new Windows({
      answers: () => [...this.answers].map(([conversation, { message }]) => ({ conversation, message: message.id })),
      onchanged: (id) => this.read(id),
      ondeleted: (id) => this.drop(id),
      onstop: (id) => this.answers.get(id)?.stop(),
      onsilent: (message) => this.lose(message),
    });
  }

  /** A new conversation, with the settings that were last used. It is kept from its first message on. */
  blank() {
    const last = recall("defaults") ?? {};
    const system = typeof last.system === "string" ? last.system : "";
    return newConversation({ system, sampling: checkedSampling(last.sampling), trim: last.trim === true });
  }

  tell(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Reads all conversations from the store. Gives how many are damaged. */
  async load() {
    const { conversations, damaged } = await loadAll((message) => this.windows.isRunning(message));
    for (const conversation of conversations) {
      this.stored.add(conversation.id);
      if (!this.conversations.has(conversation.id)) this.conversations.set(conversation.id, conversation);
    }
    this.tell("list");
    return damaged;
  }

  /** Reads one conversation again, which another window has changed. */
  async read(id) {
    const value = await load(id);
    if (value === null) return;
    this.stored.add(id);
    const own = this.conversations.get(id);
    if (own) {
      if (this.meet(own, value)) this.tellNews(own);
      return;
    }
    try {
      this.conversations.set(id, checkedConversation(value, (message) => this.windows.isRunning(message)));
      this.deleted.delete(id); // by another window, which has brought it back
    } catch {
      return; // damaged; it is told of at the next start
    }
    this.tell("list");
  }

  /** Brings what is stored into a conversation. True if there was anything new. */
  meet(own, value) {
    try {
      const stored = checkedConversation(value, (message) => this.windows.isRunning(message));
      const news = merge(own, stored, (message) => this.answers.get(own.id)?.message === message);
      for (const message of own.messages) if (message.state !== "running") this.windows.forget(message.id);
      return news;
    } catch {
      return false; // damaged: ours is better
    }
  }

  /** Another window changed a conversation. */
  tellNews(conversation) {
    if (conversation === this.open) {
      this.tell("path");
      this.tell("running");
    }
    this.tell("list");
  }

  /** The window that wrote `id` is gone. */
  lose(id) {
    for (const conversation of this.conversations.values()) {
      const message = conversation.messages.find((other) => other.id === id && other.state === "running");
      if (!message || this.answers.get(conversation.id)?.message === message) continue;
      cutOff(message);
      this.tellNews(conversation);
    }
  }

  /** Opens a conversation, or a new one. */
  show(conversation = this.blank()) {
    this.open = conversation;
    this.rememberOpen();
    this.tell("path");
    this.tell("list");
    this.tell("running");
  }

  /** Every tab comes back to its own conversation; a new one begins with the last one of all. */
  rememberOpen() {
    const id = this.conversations.has(this.open.id) ? this.open.id : "";
    remember("open", id, () => sessionStorage);
    remember("open", id);
  }

  /** The conversation that this tab had open, if it is still there. */
  lastOpen() {
    return this.conversations.get(recall("open", () => sessionStorage) ?? recall("open"));
  }

  /** The answer that is being written in the open conversation, here or in another window. */
  get answer() {
    const { open } = this;
    const own = this.answers.get(open.id);
    if (own || this.windows.isQuiet) return own ?? null;
    const index = open.messages.findLastIndex((message) => message.state === "running");
    if (index < 0) return null;
    return { conversation: open, index, began: open.messages[index].created, stop: () => this.windows.tell("stop", open.id) };
  }

  /** Whether an answer is being written in a conversation. */
  isAnswering(conversation) {
    if (this.answers.has(conversation.id)) return true;
    return !this.windows.isQuiet && conversation.messages.some((message) => message.state === "running");
  }

  /** Sends a message below the shown ones and asks for its answer. */
  send(text, files = []) {
    const path = shownPath(this.open);
    this.ask(addMessage(this.open, path.at(-1) ?? null, { role: "user", text, files }));
  }

  /** Puts another text beside message `index`: of a person, it is answered; of the model, it is taken as it is. */
  edit(index, text) {
    const { role, parent, files } = this.open.messages[index];
    const added = addMessage(this.open, parent, { role, text, files });
    if (role === "user") this.ask(added);
    else this.changed();
  }

  /** Asks for another answer in the place of `index`. One that failed before its first word is replaced. */
  regenerate(index) {
    const { parent, text, state } = this.open.messages[index];
    if (text === "" && state !== "running") this.run(index);
    else this.ask(parent);
  }

  /** Asks for an answer to the message `question`. */
  ask(question) {
    this.run(addMessage(this.open, question, { role: "assistant", text: "", state: "running" }));
  }

  run(index) {
    const conversation = this.open;
    const answer = new Answer(conversation, index, this.model);
    let saved = Date.now();
    answer.changed = () => {
      if (conversation === this.open) this.tell("piece", index);
      if (Date.now() - saved > SAVE_EVERY) {
        saved = Date.now();
        this.keep(conversation);
      }
    };
    answer.ended = () => {
      if (this.answers.get(conversation.id) === answer) this.answers.delete(conversation.id);
      if (conversation === this.open) this.tell("piece", index);
      this.tell("running", answer);
      this.tell("list");
      this.keep(conversation);
    };
    this.answer?.stop(); // one at a time; an edit may have been open while another was asked for
    this.answers.set(conversation.id, answer);
    this.changed();
    this.tell("running");
    answer.run();
  }

  stop() {
    this.answer?.stop();
  }

  choose(index) {
    choose(this.open, index);
    this.changed();
  }

  /** The open conversation changed its messages: shows and keeps it. */
  changed() {
    const first = !this.conversations.has(this.open.id);
    this.conversations.set(this.open.id, this.open);
    if (first) this.rememberOpen();
    this.tell("path");
    this.tell("list");
    this.keep(this.open);
  }

  /** Changes the settings of the open conversation; new ones begin with the same. */
  configure(settings) {
    Object.assign(this.open, settings, { configured: later(this.open.configured) });
    const { system, sampling, trim } = this.open;
    remember("defaults", { system, sampling, trim });
    if (this.conversations.has(this.open.id)) this.keep(this.open);
  }

  async keep(conversation) {
    const { id } = conversation;
    if (!this.conversations.has(id)) return; // deleted meanwhile
    let news = false;
    let gone = false;
    const kept = await save(conversation, (stored) => {
      gone = !this.conversations.has(id) || (stored === null && this.stored.has(id));
      if (!gone && stored !== null) news = this.meet(conversation, stored);
      return !gone;
    });
    if (gone) return this.drop(id); // by another window, which has not told us yet
    if (!kept) return this.tell("unkept", id);
    this.stored.add(id);
    this.windows.tell("changed", id);
    if (news) this.tellNews(conversation);
  }

  rename(id, title) {
    const conversation = this.conversations.get(id);
    conversation.title = title;
    conversation.titled = later(conversation.titled);
    conversation.updated = Date.now();
    this.keep(conversation);
    this.tell("list");
  }

  /** Deletes a conversation and gives it back, so that it can be restored. */
  async delete(id) {
    const conversation = this.conversations.get(id);
    this.drop(id);
    await remove(id);
    this.windows.tell("deleted", id);
    return conversation;
  }

  isDeleted(id) {
    return this.deleted.has(id);
  }

  /** Forgets a conversation that is deleted. */
  drop(id) {
    if (!this.conversations.has(id)) return;
    this.deleted.add(id);
    this.answers.get(id)?.stop();
    this.conversations.delete(id);
    this.stored.delete(id);
    this.tell("deleted", id);
    if (this.open.id === id) this.show();
    else this.tell("list");
  }

  /** Adds conversations that were imported, or deleted by mistake. */
  add(conversations) {
    for (const conversation of conversations) {
      this.conversations.set(conversation.id, conversation);
      this.stored.delete(conversation.id);
      this.deleted.delete(conversation.id);
      this.keep(conversation);
    }
    if (conversations.length > 0) this.show(conversations[0]);
  }
}
