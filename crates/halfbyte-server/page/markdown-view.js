// Draws markdown as elements. Text reaches the page only as text nodes, so nothing that a model writes can become
// markup, and a link is made only of an address that markdown-inline.js has found safe.

import { copyButton, el } from "./dom.js";
import { newBudget, parseBlocks } from "./markdown-blocks.js";

const PIECE = 4000; // characters

/**
 * Shows a growing text in `container`. Blocks that no further text can change are drawn once and left alone, so a stream costs its
 * length and not the square of it, and a selection in them survives.
 */
export class MarkdownView {
  constructor(container) {
    this.container = container;
    this.reset();
  }

  reset() {
    this.container.replaceChildren();
    this.text = "";
    this.settled = 0; // characters whose blocks are final
    this.budget = newBudget();
    this.level = 2;
    this.tail = [];
    this.code = null; // the block that is all of the tail, if it is code
  }

  /** Shows `text`, which usually is the last one with something appended. */
  update(text) {
    if (text === this.text) return;
    if (!text.startsWith(this.text)) this.reset();
    this.text = text;
    const lines = text.slice(this.settled).replaceAll("\r", " ").split("\n");
    const blocks = parseBlocks(lines, { ...this.budget });
    if (this.growCode(blocks)) return;
    for (const node of this.tail) node.remove();
    // The last line may still grow into something else, and with it what the line before it begins (a table), so
    // the last block that began before these two can still take in what follows. All before that one is final.
    const open = Math.max(0, blocks.findLastIndex((block) => block.line < lines.length - 2));
    const final = blocks.splice(0, open);
    if (final.length > 0) {
      this.container.append(...this.draw(final));
      this.settled += lines.slice(0, blocks[0].line).reduce((sum, line) => sum + line.length + 1, 0);
      this.budget.left -= final.reduce((sum, block) => sum + weight(block), 0);
    }
    const level = this.level;
    this.tail = this.draw(blocks);
    this.level = level; // these blocks are drawn again, from here
    this.container.append(...this.tail);
    this.code = blocks.length === 1 && blocks[0].kind === "code" ? blocks[0] : null;
  }

  /** A code block that only got longer keeps its element: its scroll position and a selection stay. */
  growCode(blocks) {
    const [block] = blocks;
    if (!this.code || blocks.length !== 1 || block.kind !== "code" || block.language !== this.code.language) return false;
    const node = this.tail[0].querySelector("code").firstChild;
    if (!node || !block.text.startsWith(this.code.text)) return false;
    node.appendData(block.text.slice(this.code.text.length));
    this.code.text = block.text; // the copy button reads it here
    return true;
  }

  draw(blocks) {
    return blocks.map((block) => DRAW[block.kind](block, this));
  }

  /** Headings of an answer stand below the page's own, and no level is skipped, as readers of headings expect. */
  headingLevel(wanted) {
    this.level = Math.min(wanted + 2, this.level + 1, 6);
    return this.level;
  }
}

/** About how many nodes a block has, to take from the budget. */
function weight(block) {
  const parts = [...(block.children ?? []), ...(block.blocks ?? []), ...(block.items ?? []).flat(), ...(block.rows ?? []).flat(2)];
  return 1 + parts.reduce((sum, part) => sum + weight(part), 0);
}

const DRAW = {
  paragraph: (block) => el("p", {}, ...inline(block.children)),
  heading: (block, view) =>
    el(`h${view.headingLevel(block.level)}`, { class: `heading-${Math.min(block.level, 4)}` }, ...inline(block.children)),
  rule: () => el("hr"),
  plain: drawPlain,
  quote: (block, view) => el("blockquote", {}, ...view.draw(block.blocks)),
  list: drawList,
  table: drawTable,
  code: drawCode,
};

function drawList(block, view) {
  const items = block.items.map((blocks) => {
    // An item of one paragraph is drawn without the paragraph's margins.
    const [first, ...others] = blocks;
    const tight = first?.kind === "paragraph";
    return el("li", {}, ...(tight ? inline(first.children) : []), ...view.draw(tight ? others : blocks));
  });
  if (!block.ordered) return el("ul", {}, ...items);
  return el("ol", { start: block.start === 1 ? null : block.start }, ...items);
}

/** What is too much for markdown, in pieces: the browser lays out only those that are seen. */
function drawPlain(block) {
  const pieces = [];
  const { text } = block;
  for (let at = 0; at < text.length;) {
    const far = at + PIECE;
    let end = text.length <= far ? text.length : Math.max(text.lastIndexOf("\n", far), at);
    if (end === at) end = Math.max(text.lastIndexOf(" ", far), at);
    if (end === at) end = /[\udc00-\udfff]/.test(text[far]) ? far + 1 : far; // not in the middle of a character
    pieces.push(el("p", { class: "piece" }, text.slice(at, end)));
    at = text[end] === "\n" ? end + 1 : end;
  }
  return el("div", {}, ...pieces);
}

function drawTable(block) {
  const row = (cells, name, scope) =>
    el("tr", {}, ...cells.map((cell, at) => el(name, { class: `align-${block.align[at]}`, scope }, ...inline(cell))));
  const table = el("table", {},
    el("thead", {}, row(block.head, "th", "col")),
    el("tbody", {}, ...block.rows.map((cells) => row(cells, "td"))));
  return el("div", { class: "table-frame", tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

function drawCode(block) {
  const code = el("code", {}, document.createTextNode(block.text));
  return el("div", { class: "code" },
    el("div", { class: "code-head" }, el("span", {}, block.language || "text"), copyButton("Copy code", () => block.text)),
    el("pre", { tabindex: "0", role: "group", "aria-label": "Code" }, code));
}

function inline(nodes) {
  return nodes.map((node) => {
    if (node.kind === "text") return document.createTextNode(node.text);
    if (node.kind === "code") return el("code", {}, node.text);
    if (node.kind !== "link") return el(INLINE[node.kind], {}, ...inline(node.children));
    const properties = { href: node.address, title: node.address, target: "_blank", rel: "noopener noreferrer" };
    return el("a", properties, ...inline(node.children));
  });
}

const INLINE = { strong: "strong", emphasis: "em", struck: "s" };
