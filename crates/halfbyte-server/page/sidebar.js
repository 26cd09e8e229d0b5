// The list of conversations: search, rename, delete, and files to and from it.

import { byId, el, focusField, iconButton, toast } from "./dom.js";
import { exportConversations, importConversations } from "./transfer.js";

const DAY = 86_400_000;

export class Sidebar {
  constructor(session) {
    this.session = session;
    this.renaming = null;
    session.addEventListener("list", () => this.draw());
    byId("search").addEventListener("input", () => this.draw());
    byId("new").addEventListener("click", () => this.startNew());
    byId("export").addEventListener("click", () => this.export());
    byId("import").addEventListener("click", () => byId("import-file").click());
    byId("import-file").addEventListener("change", (event) => this.import(event.target));
    for (const id of ["sidebar-open", "sidebar-close", "sidebar-shade"]) byId(id).addEventListener("click", () => this.toggle());
    // On a wide page the list is there from the start; on a phone it covers the page when asked for.
    this.narrow = matchMedia("(max-width: 860px)");
    this.narrow.addEventListener("change", () => this.toggle(!this.narrow.matches));
    this.toggle(!this.narrow.matches, false);
  }

  toggle(open = document.body.classList.contains("sidebar-closed"), focus = true) {
    document.body.classList.toggle("sidebar-closed", !open);
    byId("sidebar").inert = !open;
    document.querySelector("main").inert = open && this.narrow.matches;
    byId("sidebar-open").setAttribute("aria-expanded", String(open));
    if (focus) (open ? byId(this.narrow.matches ? "sidebar-close" : "new") : byId("sidebar-open")).focus();
  }

  /** True if it covered the page and is now closed. */
  closeCover() {
    const covers = this.narrow.matches && !document.body.classList.contains("sidebar-closed");
    if (covers) this.toggle(false);
    return covers;
  }

  startNew() {
    this.session.show();
    this.closeCover();
    focusField();
  }

  search() {
    if (document.body.classList.contains("sidebar-closed")) this.toggle(true);
    byId("search").focus();
  }

  draw() {
    if (this.renaming) return; // the list would take the field away
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...this.session.conversations.values()].sort((a, b) => b.updated - a.updated);
    const found = words.length === 0 ? all : all.filter((conversation) => matches(conversation, words));
    const focused = document.activeElement?.dataset?.focus;
    const parts = [];
    let heading = null;
    for (const conversation of found) {
      const age = ageOf(conversation.updated);
      if (age !== heading) parts.push(el("li", { class: "age" }, age));
      heading = age;
      parts.push(this.item(conversation));
    }
    const none = words.length > 0 ? "Nothing found." : "Conversations will be kept here, in this browser only.";
    byId("list").replaceChildren(...(parts.length > 0 ? parts : [el("li", { class: "none" }, none)]));
    byId("export").disabled = all.length === 0;
    if (focused) byId("list").querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    const { title } = this.session.open;
    byId("title").textContent = title || "New conversation";
    document.title = title ? `${title} · halfbyte` : "halfbyte";
  }

  item(conversation) {
    const { id, title } = conversation;
    const current = id === this.session.open.id;
    const name = title || "Untitled";
    const open = () => {
      this.session.show(conversation);
      if (this.closeCover()) focusField();
    };
    const row = el("li", { class: current ? "item is-current" : "item" },
      el("button", { type: "button", class: "item-name", title: name, "aria-current": current && "true", "data-focus": `open ${id}`, onclick: open },
        el("span", {}, name),
        this.session.isAnswering(conversation) ? el("span", { class: "working", role: "img", "aria-label": "being answered" }) : null),
      el("span", { class: "item-tools" },
        iconButton("edit", `Rename ${name}`, () => this.rename(row, conversation), { "data-focus": `rename ${id}` }),
        iconButton("download", `Export ${name}`, () => exportConversations([conversation]), { "data-focus": `export ${id}` }),
        iconButton("trash", `Delete ${name}`, () => this.delete(id))));
    return row;
  }

  rename(row, conversation) {
    const field = el("input", { class: "rename", "aria-label": "New name", maxlength: "200" });
    field.value = conversation.title;
    const close = (keep) => {
      if (this.renaming !== field) return;
      this.renaming = null;
      const title = field.value.trim();
      const focused = document.activeElement === field;
      if (keep && title !== "" && title !== conversation.title) this.session.rename(conversation.id, title);
      else this.draw();
      if (focused) byId("list").querySelector(`[data-focus="${CSS.escape(`rename ${conversation.id}`)}"]`)?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) close(true);
      if (event.key === "Escape") close(false);
      if (event.key === "Enter" || event.key === "Escape") event.stopPropagation();
    });
    field.addEventListener("blur", () => close(true));
    row.replaceChildren(field);
    this.renaming = field;
    field.focus();
    field.select();
  }

  async delete(id) {
    const deleted = await this.session.delete(id);
    byId("new").focus();
    toast(`Deleted “${deleted.title || "Untitled"}”.`, { action: "Undo", onaction: () => this.session.add([deleted]) });
  }

  export() {
    exportConversations([...this.session.conversations.values()]);
  }

  async import(field) {
    const [file] = field.files;
    field.value = ""; // the same file may be chosen again
    if (!file) return;
    try {
      const { conversations, leftOut } = await importConversations(file, new Set(this.session.conversations.keys()));
      this.session.add(conversations);
      this.closeCover();
      const lost = leftOut.length > 0 ? ` Settings that this page does not have were left out: ${leftOut.join(", ")}.` : "";
      toast(`Imported ${conversations.length} ${conversations.length === 1 ? "conversation" : "conversations"}.${lost}`, { seconds: lost ? 20 : 8 });
    } catch (error) {
      toast(error.message, { seconds: 20 });
    }
  }
}

function matches(conversation, words) {
  const texts = [conversation.title, ...conversation.messages.map((message) => message.text)].map((text) => text.toLowerCase());
  return words.every((word) => texts.some((text) => text.includes(word)));
}

function ageOf(time) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (time >= today) return "Today";
  if (time >= today - DAY) return "Yesterday";
  if (time >= today - 7 * DAY) return "Last 7 days";
  return "Older";
}
