// A conversation as plain data, and all that is done to it. Messages are a tree: editing and regenerating add a branch
// beside the old one. They lie in a list, and a parent always stands before its children, so no file that is
// imported can hold a circle. `chosen` says which branch is shown: of a message, or of the conversation itself.
// Places in the list are one window's own; `id` is a message's name everywhere, and the times say which copy is newer (merge.js).

export const MAX_TEXT = 8_000_000; // characters of one text; far above any model's context
const MAX_MESSAGES = 20_000;
const STATES = ["done", "stopped", "cut", "failed", "running"];
const PROBLEMS = ["key", "full"]; // those with a remedy of their own

/**
 * The sampling settings: their names in a request, limits, and words for people. `usual` is what an empty field means:
 * the values of `halfbyte chat`, with which small models write better than with those that OpenAI's API prescribes
 * for requests that name none. Where it is missing, the server decides. `file` is the name in files of `halfbyte chat`, if it is another.
 */
export const SAMPLING = [
  { name: "temperature", label: "Temperature", usual: 0.7, min: 0, max: 2, step: 0.05, hint: "0 always takes the likeliest word; higher is freer." },
  { name: "top_p", label: "Top p", usual: 0.95, min: 0, max: 1, step: 0.01, hint: "Keeps the likeliest words that together have this share." },
  { name: "top_k", label: "Top k", usual: 40, min: 0, max: 1000, step: 1, hint: "Keeps this many of the likeliest words; 0 keeps all." },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01, hint: "Drops words below this share of the likeliest one." },
  { name: "repetition_penalty", label: "Repeat penalty", usual: 1.1, min: 0.5, max: 2, step: 0.05,
    hint: "Above 1, words just used get less likely." },
  { name: "max_tokens", file: "max_new_tokens", label: "Longest answer", min: 1, max: 1_000_000, step: 1,
    hint: "In tokens; a token is about ¾ of a word." },
  { name: "seed", label: "Seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, hint: "The same seed and question give the same answer." },
];

/** What a request says of sampling: the conversation's own settings, and the usual ones for the rest. */
export function samplingFor(conversation) {
  const usual = SAMPLING.filter((setting) => setting.usual !== undefined).map(({ name, usual: value }) => [name, value]);
  return { ...Object.fromEntries(usual), ...conversation.sampling };
}

/** Random letters; `crypto.randomUUID` would exist on https and localhost only. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36)).join("-");
}

export function newConversation({ system = "", sampling = {}, trim = false } = {}) {
  const now = Date.now();
  return {
    id: newId(), title: "", titled: 0, created: now, updated: now, system, sampling: { ...sampling }, trim, configured: 0,
    chosen: null, chosenAt: 0, messages: [],
  };
}

/** Adds a message below `parent` (null for the first ones), makes it the shown branch and gives its index. */
export function addMessage(conversation, parent, { role, text, files = [], state = "done" }) {
  const index = conversation.messages.length;
  const now = Date.now();
  conversation.messages.push({
    id: newId(), parent, role, text, files, state, created: now, changed: now, chosen: null, chosenAt: 0,
    usage: null, error: null, problem: null, leftOut: 0,
  });
  choose(conversation, index);
  conversation.updated = Date.now();
  if (conversation.title === "" && role === "user") conversation.title = titleOf(text, files);
  return index;
}

function titleOf(text, files) {
  const line = (text.trim() || files[0]?.name || "").slice(0, 200).replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 58).trimEnd()}…` : line;
}

/** Shows the branch in which the message `index` is. */
export function choose(conversation, index) {
  const { parent } = conversation.messages[index];
  const above = parent === null ? conversation : conversation.messages[parent];
  above.chosen = index;
  above.chosenAt = later(above.chosenAt);
}

/** Now, but after `time`: two changes in one millisecond have an order, too. */
export const later = (time) => Math.max(Date.now(), time + 1);

/** An answer that nobody writes any more. */
export function cutOff(message) {
  message.state = "cut";
  message.error = "This answer is not complete.";
}

/** The indices of the messages that are shown, from the first to the last. */
export function shownPath(conversation) {
  const path = [];
  for (let at = conversation.chosen; at !== null; at = conversation.messages[at].chosen) path.push(at);
  return path;
}

const families = new WeakMap(); // lists of messages to their children, by parent; messages are only ever added, so what was found stays

function childrenOf(messages) {
  if (!families.has(messages)) families.set(messages, { count: 0, byParent: new Map() });
  const known = families.get(messages);
  for (; known.count < messages.length; known.count += 1) {
    const { parent } = messages[known.count];
    if (!known.byParent.has(parent)) known.byParent.set(parent, []);
    known.byParent.get(parent).push(known.count);
  }
  return known.byParent;
}

/** The branches at the place of message `index`, itself among them. */
export function siblings(conversation, index) {
  return childrenOf(conversation.messages).get(conversation.messages[index].parent);
}

/** The messages that a model is sent to answer the message `index`. */
export function promptFor(conversation, index) {
  const messages = [];
  for (let at = index; at !== null; at = conversation.messages[at].parent) {
    const message = conversation.messages[at];
    const content = contentOf(message);
    if (content !== "") messages.unshift({ role: message.role, content });
  }
  if (conversation.system.trim() !== "") messages.unshift({ role: "system", content: conversation.system });
  return messages;
}

/** The text of a message with its files before it, each between fences that its own text cannot close. */
export function contentOf({ text, files }) {
  const parts = files.map((file) => {
    const longest = (file.text.match(/`+/g) ?? []).reduce((most, run) => Math.max(most, run.length), 2);
    const fence = "`".repeat(longest + 1);
    return `File ${file.name}:\n${fence}\n${file.text.trimEnd()}\n${fence}`;
  });
  return [...parts, text].filter((part) => part !== "").join("\n\n");
}

/**
 * A checked copy of what should be a conversation, with known fields only. Throws an Error that says what is wrong.
 * `isRunning` says of a message's id whether somebody writes it; a running answer of nobody is cut off.
 */
export function checkedConversation(value, isRunning = () => false) {
  const from = object(value, "the conversation");
  const list = from.messages;
  if (!Array.isArray(list) || list.length > MAX_MESSAGES) throw new Error(`messages must be a list of at most ${MAX_MESSAGES}`);
  const conversation = {
    id: string(from.id ?? newId(), "id", 100),
    title: string(from.title ?? "", "title", 500),
    titled: moment(from.titled),
    created: time(from.created),
    updated: time(from.updated),
    system: string(from.system ?? "", "system"),
    sampling: checkedSampling(from.sampling),
    trim: from.trim === true,
    configured: moment(from.configured),
    chosenAt: moment(from.chosenAt),
    messages: list.map(checkedMessage),
  };
  const ids = new Set();
  for (const message of conversation.messages) {
    if (ids.has(message.id)) message.id = newId();
    ids.add(message.id);
    if (message.state === "running" && !isRunning(message.id)) cutOff(message);
  }
  conversation.chosen = checkedChoice(conversation.messages, null, from.chosen);
  conversation.messages.forEach((message, at) => {
    message.chosen = checkedChoice(conversation.messages, at, message.chosen);
  });
  return conversation;
}

function checkedMessage(value, at) {
  const where = `message ${at + 1}`;
  const from = object(value, where);
  if (from.role !== "user" && from.role !== "assistant") throw new Error(`${where}: role must be "user" or "assistant"`);
  const parent = from.parent ?? null;
  if (parent !== null && !(Number.isInteger(parent) && parent >= 0 && parent < at)) {
    throw new Error(`${where}: parent must be the number of an earlier message`);
  }
  const files = from.files ?? [];
  if (!Array.isArray(files) || files.length > 100) throw new Error(`${where}: files must be a list of at most 100`);
  return {
    // Those of earlier versions have no names; their places are the same in every window.
    id: string(from.id ?? String(at), `${where}: id`, 100),
    parent,
    role: from.role,
    text: string(from.text, `${where}: text`),
    files: files.map((file) => ({ name: string(file?.name, `${where}: a file's name`, 300), text: string(file?.text, `${where}: a file's text`) })),
    state: STATES.includes(from.state) ? from.state : "done",
    created: time(from.created),
    changed: moment(from.changed),
    chosen: from.chosen,
    chosenAt: moment(from.chosenAt),
    usage: checkedUsage(from.usage),
    leftOut: Number.isInteger(from.leftOut) && from.leftOut > 0 ? from.leftOut : 0,
    error: from.error ? string(from.error, `${where}: error`, 2000) : null,
    problem: PROBLEMS.includes(from.problem) ? from.problem : null,
  };
}

/** The shown child of `parent`: the one that was chosen, if it is one, else the newest. */
function checkedChoice(messages, parent, chosen) {
  if (Number.isInteger(chosen) && messages[chosen]?.parent === parent) return chosen;
  return childrenOf(messages).get(parent)?.at(-1) ?? null;
}

export function checkedSampling(value) {
  const sampling = {};
  for (const { name, min, max, step } of SAMPLING) {
    const number = value?.[name];
    const fits = typeof number === "number" && number >= min && number <= max && (step !== 1 || Number.isInteger(number));
    if (fits) sampling[name] = number;
  }
  return sampling;
}

function checkedUsage(value) {
  const count = (number) => (typeof number === "number" && number >= 0 && number < 1e12 ? number : 0);
  if (!value || typeof value !== "object") return null;
  return { prompt: count(value.prompt), answer: count(value.answer), seconds: count(value.seconds) };
}

function object(value, what) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error(`${what} must be an object`);
  return value;
}

function string(value, what, longest = MAX_TEXT) {
  if (typeof value !== "string") throw new Error(`${what} must be a text`);
  if (value.length > longest) throw new Error(`${what} is longer than ${longest} characters`);
  return value;
}

const moment = (value) => (Number.isFinite(value) && value > 0 && value < 8.64e15 ? value : 0);
const time = (value) => moment(value) || Date.now();
