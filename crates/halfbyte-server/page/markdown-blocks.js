// The block half of the markdown reader: text to a tree of plain objects, without any DOM.
// Reading is linear in the text and never deeper than MAX_DEPTH; when the budget of nodes is used up, all that
// is left becomes one plain block. So a hostile megabyte costs time in proportion, and no more.

import { parseInline } from "./markdown-inline.js";

const MAX_DEPTH = 8;
const MAX_CELLS = 40;
const TAB = 4; // columns
const LONG_PARAGRAPH = 20000; // characters, after which another one begins; a line beyond it is drawn as plain text
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`]{0,100})$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const CLOSING = /(?:^|[ \t])#+$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:([ \t]{1,4})|$)/;
const TABLE_RULE = /^:?-+:?$/;

/** How many nodes a text may become: enough for a long answer, and few enough to draw at once. */
export const newBudget = () => ({ left: 6000 });

/**
 * Reads lines into blocks, each with `line`, where it begins:
 * {kind: "paragraph" | "heading", level, children}, {kind: "code", language, text}, {kind: "rule"},
 * {kind: "quote", blocks}, {kind: "list", ordered, start, items: [blocks]},
 * {kind: "table", align, head, rows} and {kind: "plain", text}.
 */
export function parseBlocks(lines, budget, depth = 0) {
  const blocks = [];
  let line = 0;
  while (line < lines.length) {
    if (isBlank(lines[line])) {
      line += 1;
      continue;
    }
    if (budget.left <= 0) {
      blocks.push({ kind: "plain", line, text: lines.slice(line).join("\n") });
      break;
    }
    budget.left -= 1;
    const read = READERS.find(({ begins }) => begins(lines, line, depth)).read;
    const { block, next } = read(lines, line, budget, depth);
    block.line = line;
    blocks.push(block);
    line = next;
  }
  return blocks;
}

/** The kinds of blocks in the order in which they are tried; the last one takes any line. */
const READERS = [
  { begins: (lines, at) => isShort(lines[at]) && FENCE.test(lines[at]), read: readCode },
  { begins: (lines, at) => HEADING.test(lines[at]), read: readHeading },
  { begins: (lines, at) => isRule(lines[at]), read: (_, at) => ({ block: { kind: "rule" }, next: at + 1 }) },
  { begins: (lines, at, depth) => depth < MAX_DEPTH && QUOTE.test(lines[at]), read: readQuote },
  { begins: (lines, at, depth) => depth < MAX_DEPTH && ITEM.test(lines[at]), read: readList },
  { begins: beginsTable, read: readTable },
  { begins: () => true, read: readParagraph },
];

const isBlank = (line) => line.trim() === "";
const isShort = (line) => line.length < 300; // what is longer is text, and no pattern has to look through it
const isRule = (line) => isShort(line) && RULE.test(line);

/** Whether another block begins here, so that a paragraph ends. */
function interrupts(lines, at, depth) {
  if (READERS.slice(0, 4).some(({ begins }) => begins(lines, at, depth)) || beginsTable(lines, at)) return true;
  const item = depth < MAX_DEPTH && ITEM.exec(lines[at]);
  // "1986. A year" at a line's start is no list; nor is an empty item.
  return Boolean(item && item[3] && (/^[-*+]$/.test(item[2]) || /^1[.)]$/.test(item[2])));
}

function readCode(lines, at) {
  const [, indent, fence, info] = FENCE.exec(lines[at]);
  let end = at + 1;
  while (end < lines.length && !closes(lines[end], fence)) end += 1;
  const text = lines.slice(at + 1, end).map((line) => withoutIndent(line, indent.length)).join("\n");
  const language = info.trim().split(/[\s{,]/)[0];
  return { block: { kind: "code", language, text }, next: end + 1 };
}

function closes(line, fence) {
  const text = line.trim();
  return text.length >= fence.length && text[0] === fence[0] && isShort(line)
    && [...text].every((c) => c === fence[0]);
}

function readHeading(lines, at, budget) {
  const level = HEADING.exec(lines[at])[1].length;
  // The #s that may close a heading have a space before them; those of C# belong to it.
  const text = lines[at].trim().slice(level).trim().replace(CLOSING, "").trim();
  return { block: { kind: "heading", level, children: parseInline(text, budget) }, next: at + 1 };
}

function readQuote(lines, at, budget, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { block: { kind: "quote", blocks: parseBlocks(inner, budget, depth + 1) }, next: end };
}

function readList(lines, at, budget, depth) {
  const [, , marker] = ITEM.exec(lines[at]);
  const family = marker.at(-1); // "-", "*", "+", "." or ")": another one begins another list
  const ordered = /\d/.test(marker);
  const items = [];
  let line = at;
  while (line < lines.length && (items.length === 0 || budget.left > 0)) {
    const item = isRule(lines[line]) ? null : ITEM.exec(lines[line]);
    if (!item || item[2].at(-1) !== family) break;
    const { inner, next } = itemLines(lines, line, item, depth);
    budget.left -= 1;
    items.push(parseBlocks(inner, budget, depth + 1));
    line = skipBlank(lines, next);
    if (line >= lines.length || !ITEM.test(lines[line])) line = next;
  }
  return { block: { kind: "list", ordered, start: ordered ? Number.parseInt(marker, 10) : 1, items }, next: line };
}

/** The lines of one item without its marker and indentation. */
function itemLines(lines, at, item, depth) {
  const width = item[1].length + item[2].length + (item[3] ?? " ").length;
  const inner = [lines[at].slice(item[0].length)];
  let line = at + 1;
  while (line < lines.length) {
    const next = isBlank(lines[line]) ? skipBlank(lines, line) : line;
    if (next >= lines.length) break;
    // Two spaces are enough to belong to an item: models often indent by less than the marker's width.
    const belongs = indentation(lines[next]).columns >= Math.min(width, item[1].length + 2);
    const goesOn = next === line && !ITEM.test(lines[line]) && !interrupts(lines, line, depth);
    if (!belongs && !goesOn) break;
    while (line < next) {
      inner.push("");
      line += 1;
    }
    inner.push(belongs ? withoutIndent(lines[line], width) : lines[line]);
    line += 1;
  }
  return { inner, next: line };
}

function beginsTable(lines, at) {
  const next = lines[at + 1];
  if (next === undefined || !lines[at].includes("|") || !next.includes("-")) return false;
  const rules = cells(next);
  return rules.every((cell) => TABLE_RULE.test(cell)) && cells(lines[at]).length === rules.length;
}

function readTable(lines, at, budget) {
  const align = cells(lines[at + 1]).map((cell) =>
    cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "left");
  const row = (text) => cells(text).slice(0, align.length).map((cell) => {
    budget.left -= 1;
    return parseInline(cell, budget);
  });
  const head = row(lines[at]);
  const rows = [];
  let line = at + 2;
  while (line < lines.length && budget.left > 0 && lines[line].includes("|")) {
    rows.push(row(lines[line]));
    line += 1;
  }
  return { block: { kind: "table", align, head, rows }, next: line };
}

/** Splits a table's line at bars that are not escaped. Those that are become bars, also in code. */
function cells(line) {
  const text = line.trim();
  const found = [];
  const add = (from, to) => found.push(text.slice(from, to).trim().replaceAll("\\|", "|"));
  let from = text.startsWith("|") ? 1 : 0;
  for (let at = from; at < text.length && found.length < MAX_CELLS; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "|") {
      add(from, at);
      from = at + 1;
    }
  }
  if (from < text.length && found.length < MAX_CELLS) add(from);
  return found;
}

function readParagraph(lines, at, budget, depth) {
  if (lines[at].length > LONG_PARAGRAPH) return { block: { kind: "plain", text: lines[at] }, next: at + 1 };
  let end = at + 1;
  let length = lines[at].length;
  while (end < lines.length && length < LONG_PARAGRAPH && !isBlank(lines[end]) && !interrupts(lines, end, depth)) {
    length += lines[end].length;
    end += 1;
  }
  const text = lines.slice(at, end).map((line) => line.trim()).join("\n");
  return { block: { kind: "paragraph", children: parseInline(text, budget) }, next: end };
}

function skipBlank(lines, at) {
  while (at < lines.length && isBlank(lines[at])) at += 1;
  return at;
}

/** How many columns of space a line begins with, and where they end; no more of them than `most`. A tab goes to the next fourth column. */
function indentation(line, most = Infinity) {
  let columns = 0;
  let at = 0;
  for (; columns < most; at += 1) {
    if (line[at] === " ") columns += 1;
    else if (line[at] === "\t") columns += TAB - (columns % TAB);
    else break;
  }
  return { columns, at };
}

/** A line without its first `width` columns of space. Of a tab that reaches beyond them, the rest stays. */
function withoutIndent(line, width) {
  const { columns, at } = indentation(line, width);
  return " ".repeat(Math.max(columns - width, 0)) + line.slice(at);
}
