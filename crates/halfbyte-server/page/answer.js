// One answer being written: asks the server, puts what comes into the message, and measures it.

import { countTokens, RequestError, streamAnswer } from "./api.js";
import { MAX_TEXT, later, promptFor, samplingFor } from "./conversation.js";

const AT_ONCE = 8; // texts that the server counts at a time
const OVERHEAD = 12; // tokens that a template puts around one message, at most in those we know

/** An answer in the making. `changed()` is called for every piece, `ended()` once. */
export class Answer {
  constructor(conversation, index, model) {
    Object.assign(this, { conversation, index, model, began: Date.now(), changed() {}, ended() {} });
    this.message = conversation.messages[index];
    this.controller = new AbortController();
  }

  /** Stops the answer; what is there stays. */
  stop() {
    this.controller.abort();
  }

  async run() {
    const { message, conversation } = this;
    Object.assign(message, { state: "running", error: null, problem: null, usage: null, leftOut: 0, changed: later(message.changed) });
    this.failure = null;
    try {
      const body = { model: this.model.id, messages: await this.prompt(), ...samplingFor(conversation) };
      this.changed();
      await this.read(body);
      message.state = "done";
    } catch (error) {
      this.fail(error);
    }
    conversation.updated = Date.now();
    message.changed = later(message.changed);
    this.ended();
  }

  async read(body) {
    const { message } = this;
    let first = 0;
    let pieces = 0;
    for await (const event of streamAnswer(body, this.controller.signal)) {
      if (event.text !== undefined) {
        const now = performance.now();
        if (pieces === 0) first = now;
        pieces += 1;
        if (message.text.length + event.text.length > MAX_TEXT) throw tooLong();
        message.text += event.text;
        message.changed = later(message.changed);
        // Until the server has counted, a piece counts as a token.
        message.usage = { prompt: message.usage?.prompt ?? 0, answer: pieces, seconds: (now - first) / 1000 };
      }
      if (event.finish === "length") this.reachedLimit = true;
      if (event.usage) message.usage = { ...event.usage, seconds: message.usage?.seconds ?? 0 };
      this.changed();
    }
    message.error = this.reachedLimit ? LIMIT_NOTE : null;
  }

  fail(error) {
    const { message } = this;
    if (this.controller.signal.aborted) {
      message.state = "stopped";
      return;
    }
    this.failure = error;
    message.state = error.kind === "cut" && message.text !== "" ? "cut" : "failed";
    message.problem = error.kind ?? null;
    message.error = error.title ? `${error.title} ${error.advice}` : `The page failed: ${error.message}`;
  }

  /** Tokens of each message. The server is asked for a few at a time, and once for each text. */
  async sizes(messages) {
    const known = counted.get(this.conversation);
    const sizes = new Map();
    const missing = [];
    for (const { content } of messages) {
      if (known?.has(content)) sizes.set(content, known.get(content));
      else missing.push(content);
    }
    while (missing.length > 0) {
      const some = missing.splice(0, AT_ONCE);
      const counts = await Promise.all(some.map((content) => countTokens(content, this.controller.signal)));
      some.forEach((content, at) => sizes.set(content, counts[at]));
    }
    counted.set(this.conversation, sizes);
    return messages.map(({ content }) => sizes.get(content));
  }

  /** The messages to send: all, or without the oldest that do not fit, when the conversation is set so. */
  async prompt() {
    const messages = promptFor(this.conversation, this.message.parent);
    const room = this.model.contextLength;
    if (!this.conversation.trim || !room) return messages;
    const reserve = Math.min(this.conversation.sampling.max_tokens ?? 256, Math.floor(room / 2));
    const sizes = await this.sizes(messages);
    const fixed = messages[0].role === "system" ? 1 : 0;
    let total = sizes.reduce((sum, size) => sum + size + OVERHEAD, 0);
    let from = fixed;
    // The last message is always sent, and what is sent begins with a question.
    while (from < messages.length - 1 && (total + reserve > room || messages[from].role !== "user")) {
      total -= sizes[from] + OVERHEAD;
      from += 1;
    }
    this.message.leftOut = from - fixed;
    return [...messages.slice(0, fixed), ...messages.slice(from)];
  }
}

const counted = new WeakMap(); // by conversation: tokens of the texts that its last prompt had

const tooLong = () => new RequestError("server", "The answer is longer than this page keeps.", "Set the longest answer in the settings.");

const LIMIT_NOTE = "The answer reached its longest length. The settings can allow more.";

/** Tokens a second of a finished answer; the first token is not counted, because reading the prompt came before it. */
export function speedOf(usage) {
  return usage && usage.answer > 1 && usage.seconds > 0.01 ? (usage.answer - 1) / usage.seconds : null;
}
