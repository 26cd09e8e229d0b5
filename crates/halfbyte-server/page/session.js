// What the page is about: the conversations, which one is open, and the answers being written.
// It knows no elements; views listen to its events:
//   "list"    conversations came, went, or changed their names
//   "path"    the shown messages are others than before
//   "piece"   a message of the open conversation grew (detail: its index)
//   "running" an answer began or ended (detail: the answer that ended, or null)
//   "unkept"  the browser did not keep a conversation

import { Answer } from "./answer.js";
import { addMessage, checkedSampling, choose, newConversation, shownPath } from "./conversation.js";
import { loadAll, recall, remember, remove, save } from "./store.js";

const SAVE_EVERY = 1500; // milliseconds between two savings of a growing answer

export class Session extends EventTarget {
  constructor() {
    super();
    this.conversations = new Map();
    this.answers = new Map(); // by the conversation's id
    this.saving = new Map(); // how many savings are under way, by id: what the store says of these is old
    this.deleted = new Set();
    this.model = { id: "", contextLength: null };
    this.open = this.blank();
    // Other windows of this page write to the same store; whoever saves tells the others.
    this.channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("halfbyte-chat") : null;
    if (this.channel) this.channel.onmessage = () => this.load();
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

  /** Reads all from the store again, but for conversations that are being changed here. Gives how many are damaged. */
  async load() {
    const { conversations, damaged } = await loadAll();
    const read = new Map(conversations.map((conversation) => [conversation.id, conversation]));
    for (const id of this.deleted) read.delete(id);
    for (const id of [...this.answers.keys(), ...this.saving.keys()]) {
      if (this.conversations.has(id)) read.set(id, this.conversations.get(id));
    }
    const opened = this.conversations.has(this.open.id);
    this.conversations = read;
    const again = read.get(this.open.id);
    if (again && again !== this.open && again.updated !== this.open.updated) this.show(again);
    else if (again) this.conversations.set(again.id, this.open);
    else if (opened) this.show(this.blank()); // another window deleted it
    this.tell("list");
    return damaged;
  }

  /** Opens a conversation, or a new one. */
  show(conversation = this.blank()) {
    this.open = conversation;
    remember("open", this.conversations.has(conversation.id) ? conversation.id : null);
    this.tell("path");
    this.tell("list");
    this.tell("running");
  }

  get answer() {
    return this.answers.get(this.open.id) ?? null;
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
    this.answers.get(conversation.id)?.stop(); // one at a time; an edit may have been open while another was asked for
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
    if (first) remember("open", this.open.id);
    this.tell("path");
    this.tell("list");
    this.keep(this.open);
  }

  /** Changes the settings of the open conversation; new ones begin with the same. */
  configure(settings) {
    Object.assign(this.open, settings);
    const { system, sampling, trim } = this.open;
    remember("defaults", { system, sampling, trim });
    if (this.conversations.has(this.open.id)) this.keep(this.open);
  }

  async keep(conversation) {
    const { id } = conversation;
    if (!this.conversations.has(id)) return; // deleted meanwhile
    this.saving.set(id, (this.saving.get(id) ?? 0) + 1);
    const kept = await save(conversation);
    this.saving.set(id, this.saving.get(id) - 1);
    if (this.saving.get(id) === 0) this.saving.delete(id);
    if (!kept) this.tell("unkept");
    else this.channel?.postMessage(id);
  }

  rename(id, title) {
    const conversation = this.conversations.get(id);
    conversation.title = title;
    conversation.updated = Date.now();
    this.keep(conversation);
    this.tell("list");
  }

  /** Deletes a conversation and gives it back, so that it can be restored. */
  async delete(id) {
    const conversation = this.conversations.get(id);
    this.answers.get(id)?.stop();
    this.conversations.delete(id);
    this.deleted.add(id);
    if (this.open.id === id) this.show();
    else this.tell("list");
    await remove(id);
    this.channel?.postMessage(id);
    return conversation;
  }

  /** Adds conversations that were imported, or deleted by mistake. */
  add(conversations) {
    for (const conversation of conversations) {
      this.conversations.set(conversation.id, conversation);
      this.deleted.delete(conversation.id);
      this.keep(conversation);
    }
    if (conversations.length > 0) this.show(conversations[0]);
  }
}
