// Conversations to a file and back. What comes from a file is checked before anything of it is kept.
// A file of one conversation also has its shown messages as a plain list, which is what `/save` and `/load`
// of `halfbyte chat` write and read; files of those are imported too.

import { SAMPLING, addMessage, checkedConversation, checkedSampling, newConversation, promptFor, samplingFor, shownPath } from "./conversation.js";

const FORMAT = "halfbyte chat";
// What settings without a place here are when they do nothing.
const USUAL = { typical_p: 1, repeat_last_n: 64, presence_penalty: 0, frequency_penalty: 0, context_policy: "drop_oldest_turns" };
const LARGEST = 100e6; // bytes of a file to import

/** Offers the conversations as a file to save. */
export function exportConversations(conversations) {
  const [first] = conversations;
  const single = conversations.length === 1;
  const last = shownPath(first).at(-1) ?? null;
  const content = JSON.stringify({
    format: FORMAT, version: 1, exported: new Date().toISOString(),
    ...(single && { settings: toSettings(samplingFor(first)), messages: promptFor(first, last) }), conversations,
  }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = `halfbyte-${single ? fileName(first.title) : "conversations"}-${new Date().toISOString().slice(0, 10)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function fileName(title) {
  return title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40).replace(/^-|-$/g, "") || "conversation";
}

/** Sampling settings by the names that `halfbyte chat` gives them. */
function toSettings(sampling) {
  return Object.fromEntries(SAMPLING.filter(({ name }) => name in sampling).map(({ name, file = name }) => [file, sampling[name]]));
}

/** Settings of such a file by our names, and the names of those that mean something and have no place here. */
function fromSettings(settings) {
  const given = settings && typeof settings === "object" ? settings : {};
  const sampling = checkedSampling(Object.fromEntries(SAMPLING.map(({ name, file = name }) => [name, given[file]])));
  const kept = new Set(SAMPLING.filter(({ name }) => name in sampling).map(({ name, file = name }) => file));
  const leftOut = Object.keys(given).filter((name) => !kept.has(name) && !isUsual(name, given[name]));
  return { sampling, leftOut: leftOut.slice(0, 20) };
}

/** Whether a setting that the page does not know says nothing. */
const isUsual = (name, value) =>
  [null, false, ""].includes(value) || (typeof value === "object" && Object.keys(value).length === 0) || Object.is(value, USUAL[name]);

/**
 * Reads a file of conversations. Gives them, and the names of settings that were left out. Throws an Error that says what is
 * wrong with the file; all of it is taken or nothing.
 */
export async function importConversations(file, takenIds) {
  if (file.size > LARGEST) throw new Error(`${file.name} is larger than ${LARGEST / 1e6} MB.`);
  let value;
  try {
    value = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is not a JSON file. Choose one that this page exported.`);
  }
  const list = Array.isArray(value?.conversations) ? value.conversations : Array.isArray(value?.messages) ? [value] : null;
  if (!list || (value.format ?? FORMAT) !== FORMAT) {
    throw new Error(`${file.name} holds no conversations. Choose a file that this page or halfbyte chat has saved.`);
  }
  if ((value.version ?? 1) !== 1) throw new Error(`${file.name} comes from a newer version of this page. Update halfbyte to read it.`);
  const { sampling, leftOut } = fromSettings(list[0] === value ? value.settings : null);
  const conversations = list.map((item, at) => {
    try {
      const conversation = checkedConversation(item === value ? fromPlain(value, sampling) : item);
      // One that is here already is not overwritten; the file's becomes a second one.
      if (takenIds.has(conversation.id)) conversation.id = newConversation().id;
      takenIds.add(conversation.id);
      return conversation;
    } catch (error) {
      throw new Error(`${file.name}, conversation ${at + 1}: ${error.message}. Nothing was imported.`, { cause: error });
    }
  });
  return { conversations, leftOut };
}

/** A conversation out of a list of {role, content}. */
function fromPlain({ messages }, sampling) {
  const conversation = newConversation({ sampling });
  let parent = null;
  for (const message of messages.slice(0, 100_000)) {
    const content = message?.content;
    if (typeof content !== "string") throw new Error("each message must have a role and a content");
    if (message.role === "system") conversation.system = content;
    else parent = addMessage(conversation, parent, { role: message.role, text: content });
  }
  return conversation;
}
