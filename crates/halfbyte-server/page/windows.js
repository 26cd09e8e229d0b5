// The other windows of this page, which write to the same store. Whoever writes tells the others, and says when it is asked which answers
// it is writing: one whose window is gone is not waited for. (navigator.locks would know that too, but only on https and localhost.)

const ASK_EVERY = 2000; // milliseconds
const PATIENCE = 3; // questions in a row that may stay without a reply

export class Windows {
  /**
   * `answers()` are the answers written here: [{conversation, message}], names of both. The others are told of what happens elsewhere:
   * `onchanged(id)` and `ondeleted(id)` of a conversation, `onstop(id)` when its answer is to stop, `onsilent(message)` when
   * nobody writes that answer any more.
   */
  constructor({ answers, ...told }) {
    Object.assign(this, { answers, ...told, running: new Map() }); // of messages: how often nobody said to be writing them
    this.channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("halfbyte-chat") : null;
    if (!this.channel) return;
    this.channel.onmessage = ({ data }) => this.hear(data);
    addEventListener("pagehide", () => this.tell("left", null));
    this.tell("ask", null);
  }

  /** Tells the others that something happened to the conversation `id`. */
  tell(kind, id) {
    this.channel?.postMessage({ kind, id, answers: this.answers() });
  }

  /** Whether another window writes this message. */
  isRunning(message) {
    return this.running.has(message);
  }

  /** Whether no other window is known to write anything. */
  get isQuiet() {
    return this.running.size === 0;
  }

  forget(message) {
    this.running.delete(message);
  }

  hear({ kind, id, answers }) {
    if (kind === "left") {
      for (const { message } of answers) this.lose(message);
      return;
    }
    for (const { conversation, message } of answers) {
      const known = this.running.has(message);
      this.running.set(message, 0);
      if (!known && conversation !== id) this.onchanged(conversation);
    }
    if (answers.length > 0) this.timer ??= setInterval(() => this.ask(), ASK_EVERY);
    if (kind === "ask" && this.answers().length > 0) this.tell("answering", null);
    if (kind === "changed") this.onchanged(id);
    if (kind === "deleted") this.ondeleted(id);
    if (kind === "stop") this.onstop(id);
  }

  /** Asks who is still writing. A window that is not seen has slow timers but hears at once, so questions are counted, and not seconds. */
  ask() {
    for (const [message, silent] of this.running) {
      if (silent >= PATIENCE) this.lose(message);
      else this.running.set(message, silent + 1);
    }
    if (!this.isQuiet) return this.tell("ask", null);
    clearInterval(this.timer);
    this.timer = null;
  }

  lose(message) {
    if (this.running.delete(message)) this.onsilent(message);
  }
}
