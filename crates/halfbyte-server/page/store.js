// Keeps conversations in the browser's database, and small choices (theme, drafts) in its key-value store.
// Nothing here may take the page down: without storage, or without room, all stays in memory and the page says so.

import { checkedConversation } from "./conversation.js";

const TABLE = "conversations";
const memory = new Map(); // what the database could not take, by id; it counts before the database
let database = null;

/** Opens the database. False if the browser has none for us; everything then lasts as long as the page. */
export async function openStore() {
  try {
    const opening = indexedDB.open("halfbyte-chat", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: "id" });
    database = await done(opening);
    database.onversionchange = () => database.close();
    return true;
  } catch {
    return false;
  }
}

/**
 * All conversations, and how many were left out because they could not be understood. These are not deleted.
 * `isRunning` says which messages are being written.
 */
export async function loadAll(isRunning) {
  let stored = [];
  try {
    stored = await done(table("readonly").getAll());
  } catch {
    // An unreadable database is as none; what is in memory remains.
  }
  const conversations = [];
  let damaged = 0;
  for (const value of stored) {
    if (memory.has(value.id)) continue;
    try {
      conversations.push(checkedConversation(value, isRunning));
    } catch {
      damaged += 1;
    }
  }
  return { conversations: [...conversations, ...memory.values()], damaged };
}

/** What is stored under `id`, unchecked; null if that is nothing. */
export async function load(id) {
  try {
    return (await done(table("readonly").get(id))) ?? null;
  } catch {
    return null;
  }
}

/**
 * Keeps a conversation. False if there was no room, or no database: it is then in memory only. `meet` is called with what is stored
 * now (null for nothing) and may bring that into the conversation; nothing is written if it gives false.
 */
export async function save(conversation, meet) {
  const { id } = conversation;
  try {
    await written(async (table) => {
      const stored = await done(table.get(id));
      if (meet(stored ?? null)) table.put(structuredClone(conversation));
    });
    memory.delete(id);
    return true;
  } catch {
    memory.set(id, structuredClone(conversation));
    return false;
  }
}

export async function remove(id) {
  memory.delete(id);
  await written((table) => table.delete(id)).catch(() => {});
}

function table(mode) {
  if (!database) throw new Error("there is no database");
  return database.transaction(TABLE, mode).objectStore(TABLE);
}

/** Does `work` with the table. What it wrote is there when this resolves: the quota is looked at only at a transaction's end. */
async function written(work) {
  const rows = table("readwrite");
  const { transaction } = rows;
  const ended = new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error ?? new Error("the browser wrote nothing"));
  });
  await Promise.all([ended, work(rows)]);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is blocked"));
  });
}

/** Reads a small choice; null if there is none or it is damaged. */
export function recall(name, storage = () => localStorage) {
  try {
    return JSON.parse(storage().getItem(`halfbyte.${name}`));
  } catch {
    return null;
  }
}

/** Keeps a small choice, or forgets it when it is null. False if the browser would not. */
export function remember(name, value, storage = () => localStorage) {
  try {
    if (value === null) storage().removeItem(`halfbyte.${name}`);
    else storage().setItem(`halfbyte.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** What was typed and not sent, by conversation. Drafts of the last twenty are kept. */
export function recallDraft(id) {
  const draft = recall("drafts")?.[id];
  return typeof draft === "string" ? draft : "";
}

export function rememberDraft(id, text) {
  const kept = recall("drafts");
  const others = Object.entries(kept && typeof kept === "object" ? kept : {}).filter(([key]) => key !== id).slice(-19);
  if (text !== "") others.push([id, text]);
  return remember("drafts", others.length > 0 ? Object.fromEntries(others) : null);
}
