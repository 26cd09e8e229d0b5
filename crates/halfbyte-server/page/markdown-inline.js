// The inline half of the markdown reader: one line of thought to a tree of plain objects.
// Work is linear in the text: the stack of open marks is bounded, backticks are indexed once, addresses
// have a length limit, and when the budget of nodes is used up the rest stays one piece of text.

const MAX_OPEN = 48; // open marks at a time, and so also how deep the tree can get
const MAX_ADDRESS = 2048;
const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const ESCAPABLE = new Set("\\`*_{}[]()<>#+-.!|~\"'&:");
const MARKS = new Set("*_~");
// None of these can read a character in two ways, so none of them backtracks.
const ANGLE_ADDRESS = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2048})>/y;
const BARE_ADDRESS = /https?:\/\/[^\s<>"`\\]{1,2048}/y;
// An address may have one pair of parentheses, as those of encyclopedias do.
const TARGET = / {0,4}<?([^\s<>()]{1,2048}(?:\([^\s<>()]{0,200}\)[^\s<>()]{0,200})?)>?(?: {1,4}"[^"\n]{0,300}")? {0,4}\)/y;

/** The address if it is one that is safe to follow, else null. */
function safeAddress(address) {
  if (address.length > MAX_ADDRESS || /[\s\u0000-\u001f\u007f]/.test(address)) return null;
  try {
    const url = new URL(address);
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null; // relative addresses too: a model has nothing to point at on this server
  }
}

/**
 * Reads `source` into nodes: {kind: "text", text}, {kind: "code", text},
 * {kind: "strong" | "emphasis" | "struck", children} and {kind: "link", address, children}. Line ends stay in
 * the text, because models end a line where they mean it. Takes what it makes from `budget.left`.
 */
export function parseInline(source, budget) {
  return new Inline(source, budget).run();
}

class Inline {
  constructor(source, budget) {
    this.source = source;
    this.budget = budget;
    this.at = 0;
    this.textFrom = 0;
    this.out = [];
    this.open = []; // {mark, count, index}: marks that may still become a node; index is their place in out
    this.ticks = null;
  }

  run() {
    const { source } = this;
    while (this.at < source.length && this.budget.left > 0) {
      const here = source[this.at];
      let used = 0;
      if (here === "\\") used = this.escape();
      else if (here === "`") used = this.code();
      else if (MARKS.has(here)) used = this.marks(here);
      else if (here === "[") used = this.openBracket();
      else if (here === "]") used = this.closeBracket();
      else if (here === "<") used = this.angleAddress();
      else if (here === "h" && source.startsWith("http", this.at)) used = this.bareAddress();
      if (used === 0) this.at += 1;
    }
    this.flush(source.length);
    return this.out;
  }

  /** Makes the characters read since the last node one text node. */
  flush(end) {
    if (end > this.textFrom) this.push({ kind: "text", text: this.source.slice(this.textFrom, end) });
    this.textFrom = end;
  }

  push(node) {
    this.out.push(node);
    this.budget.left -= 1;
  }

  /** Puts `node` for the next `length` characters. */
  take(length, node) {
    this.flush(this.at);
    if (node) this.push(node);
    this.at += length;
    this.textFrom = this.at;
    return length;
  }

  escape() {
    const next = this.source[this.at + 1];
    if (next !== "\n" && !ESCAPABLE.has(next)) return 0;
    return this.take(2, { kind: "text", text: next });
  }

  code() {
    const length = runLength(this.source, this.at);
    const end = this.closingTicks(length, this.at + length);
    if (end < 0) {
      this.at += length; // an unmatched run is text as a whole
      return length;
    }
    let text = this.source.slice(this.at + length, end).replaceAll("\n", " ");
    if (text.startsWith(" ") && text.endsWith(" ") && text.trim() !== "") text = text.slice(1, -1);
    return this.take(end + length - this.at, { kind: "code", text });
  }

  /** Where the next run of exactly `length` backticks begins. All runs are found in one pass, so asking often is cheap. */
  closingTicks(length, from) {
    if (this.ticks === null) {
      this.ticks = new Map();
      for (let at = this.source.indexOf("`"); at >= 0;) {
        const run = runLength(this.source, at);
        if (!this.ticks.has(run)) this.ticks.set(run, { places: [], next: 0 });
        this.ticks.get(run).places.push(at);
        at = this.source.indexOf("`", at + run);
      }
    }
    const runs = this.ticks.get(length);
    if (!runs) return -1;
    while (runs.next < runs.places.length && runs.places[runs.next] < from) runs.next += 1;
    return runs.next < runs.places.length ? runs.places[runs.next] : -1;
  }

  marks(mark) {
    const { source, at } = this;
    const length = runLength(source, at);
    const before = at > 0 ? source[at - 1] : " ";
    const after = at + length < source.length ? source[at + length] : " ";
    let opens = !isSpace(after) && !(isPunctuation(after) && isWord(before));
    let closes = !isSpace(before) && !(isPunctuation(before) && isWord(after));
    if (mark === "_" && isWord(before)) opens = false; // snake_case_names are no emphasis
    if (mark === "_" && isWord(after)) closes = false;
    if (mark === "~" && length !== 2) opens = closes = false;
    this.flush(at);
    this.at += length;
    this.textFrom = this.at;
    const left = closes ? this.closeMarks(mark, length) : length;
    if (left > 0) {
      if (opens && this.open.length < MAX_OPEN) this.open.push({ mark, count: left, index: this.out.length });
      this.push({ kind: "text", text: mark.repeat(left) });
    }
    return length;
  }

  /** Closes open marks of the same character, and says how many of `count` were not needed. */
  closeMarks(mark, count) {
    while (count > 0) {
      const found = this.open.findLastIndex((entry) => entry.mark === mark);
      if (found < 0) return count;
      const entry = this.open[found];
      const used = entry.count >= 2 && count >= 2 ? 2 : 1;
      const kind = mark === "~" ? "struck" : used === 2 ? "strong" : "emphasis";
      this.open.length = found; // marks inside that were not closed stay text
      const children = this.out.splice(entry.index + 1);
      entry.count -= used;
      if (entry.count > 0) {
        this.out[entry.index].text = mark.repeat(entry.count);
        this.open.push(entry);
      } else {
        this.out.pop();
      }
      this.push({ kind, children });
      count -= used;
    }
    return 0;
  }

  openBracket() {
    this.flush(this.at);
    if (this.open.length < MAX_OPEN) this.open.push({ mark: "[", count: 1, index: this.out.length });
    return this.take(1, { kind: "text", text: "[" });
  }

  closeBracket() {
    const found = this.open.findLastIndex((entry) => entry.mark === "[");
    if (found < 0) return 0;
    const entry = this.open[found];
    const target = this.source[this.at + 1] === "(" ? readTarget(this.source, this.at + 2) : null;
    const address = target && safeAddress(target.address);
    if (!address) {
      this.open.splice(found, 1);
      return 0;
    }
    this.flush(this.at);
    this.open.length = found;
    this.open = this.open.filter((other) => other.mark !== "["); // no links in links
    const children = this.out.splice(entry.index);
    children.shift();
    return this.take(target.end - this.at, { kind: "link", address, children });
  }

  angleAddress() {
    ANGLE_ADDRESS.lastIndex = this.at;
    const found = ANGLE_ADDRESS.exec(this.source);
    const safe = found && safeAddress(found[1]);
    return safe ? this.take(found[0].length, link(safe, found[1])) : 0;
  }

  bareAddress() {
    if (this.at > 0 && isWord(this.source[this.at - 1])) return 0; // before anything is read, or "http://ahttp://a…" would be read again and again
    BARE_ADDRESS.lastIndex = this.at;
    const found = BARE_ADDRESS.exec(this.source);
    if (!found) return 0;
    let address = found[0].replace(/[.,;:!?'*_~\]]{1,8}$/, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.slice(0, -1);
    const safe = safeAddress(address);
    if (safe) return this.take(address.length, link(safe, address));
    this.at += address.length; // never read twice, or many bad addresses would cost their square
    return address.length;
  }
}

const link = (address, shown) => ({ kind: "link", address, children: [{ kind: "text", text: shown }] });

/** Reads `address)` or `address "title")`; null if that is not what is there. */
function readTarget(source, from) {
  TARGET.lastIndex = from;
  const found = TARGET.exec(source);
  return found && { address: found[1], end: from + found[0].length };
}

/** How often the character at `at` is repeated there. */
function runLength(source, at) {
  let end = at + 1;
  while (end < source.length && source[end] === source[at]) end += 1;
  return end - at;
}

const isSpace = (c) => /\s/.test(c);
const isWord = (c) => /[\p{L}\p{N}]/u.test(c);
const isPunctuation = (c) => /[!-/:-@[-`{-~]/.test(c);
