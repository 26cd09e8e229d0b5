// How full the model's context is: what the last answer used, and what is being written.

import { countTokens } from "./api.js";
import { contentOf } from "./conversation.js";
import { byId } from "./dom.js";

const PAUSE = 350; // milliseconds without a key before the text is counted
const CHARACTERS_A_TOKEN = 4; // in English, about; used while the server has not counted

export class Meter {
  constructor(session) {
    Object.assign(this, { session, draft: 0, timer: 0, soon: null });
    session.addEventListener("piece", () => this.drawSoon());
  }

  /** Counts a draft with its files, when the person pauses. */
  count(text, files) {
    clearTimeout(this.timer);
    this.counting?.abort();
    const content = contentOf({ text, files });
    if (content === "") {
      this.draft = 0;
      this.draw();
      return;
    }
    this.timer = setTimeout(async () => {
      this.counting = new AbortController();
      const { signal } = this.counting;
      const count = await this.tokens(content, signal);
      if (signal.aborted) return; // that draft is gone
      this.draft = count;
      this.draw();
    }, PAUSE);
  }

  async tokens(text, signal) {
    try {
      return await countTokens(text, signal);
    } catch {
      return Math.ceil(text.length / CHARACTERS_A_TOKEN);
    }
  }

  /** Shows the use of another path of messages. */
  show(path) {
    this.path = path;
    this.draw();
  }

  /** Tokens of the shown messages: as the server counted for the last answer, and about so for what it has not seen. */
  used() {
    const { messages, system } = this.session.open;
    let after = 0;
    for (const index of (this.path ?? []).toReversed()) {
      const { usage } = messages[index];
      if (usage?.prompt > 0) return usage.prompt + usage.answer + Math.ceil(after / CHARACTERS_A_TOKEN);
      after += contentOf(messages[index]).length;
    }
    return Math.ceil((after + system.length) / CHARACTERS_A_TOKEN);
  }

  /** Draws at most three times a second: a long conversation is not counted anew for every word. */
  drawSoon() {
    this.soon ??= setTimeout(() => {
      this.soon = null;
      this.draw();
    }, 333);
  }

  draw() {
    const room = this.session.model.contextLength;
    const used = this.used() + this.draft;
    const share = room ? used / room : 0;
    byId("meter").hidden = used === 0 && !room;
    byId("meter-bar").hidden = !room;
    byId("meter-bar").value = Math.min(share, 1);
    byId("meter").classList.toggle("is-full", share > 1);
    byId("meter").classList.toggle("is-near", share > 0.8 && share <= 1);
    const number = (value) => value.toLocaleString("en");
    const words = room ? `${number(used)} of ${number(room)} tokens` : `${number(used)} tokens`;
    byId("meter-text").textContent = share > 1 ? `${words}: more than the model can read` : words;
  }
}
