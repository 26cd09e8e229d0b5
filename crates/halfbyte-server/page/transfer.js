// Conversations to a file and back. What comes from a file is checked before anything of it is kept.

import { checkedConversation } from "./conversation.js";

const FORMAT = "halfbyte-chat";
const LARGEST = 100e6; // bytes of a file to import

/** Offers the conversations as a file to save. */
export function exportConversations(conversations) {
  const content = JSON.stringify({ format: FORMAT, version: 1, exported: new Date().toISOString(), conversations }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  const name = conversations.length === 1 ? fileName(conversations[0].title) : "conversations";
  link.download = `halfbyte-${name}-${new Date().toISOString().slice(0, 10)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function fileName(title) {
  return title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40).replace(/^-|-$/g, "") || "conversation";
}

/** Reads a file of `exportConversations`. Throws an Error that says what is wrong with it; all of it is taken or nothing. */
export async function importConversations(file, takenIds) {
  if (file.size > LARGEST) throw new Error(`${file.name} is larger than ${LARGEST / 1e6} MB.`);
  let value;
  try {
    value = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is not a JSON file. Choose one that this page exported.`);
  }
  if (value?.format !== FORMAT || !Array.isArray(value.conversations)) {
    throw new Error(`${file.name} holds no conversations of this page. Choose a file that it exported.`);
  }
  if (value.version !== 1) throw new Error(`${file.name} comes from a newer version of this page. Update halfbyte to read it.`);
  return value.conversations.map((item, at) => {
    try {
      const conversation = checkedConversation(item);
      // One that is here already is not overwritten; the file's becomes a second one.
      if (takenIds.has(conversation.id)) conversation.id = checkedConversation({ ...item, id: undefined }).id;
      takenIds.add(conversation.id);
      return conversation;
    } catch (error) {
      throw new Error(`${file.name}, conversation ${at + 1}: ${error.message}. Nothing was imported.`);
    }
  });
}
