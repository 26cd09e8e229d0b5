// Two copies of one conversation become one, when two windows have it open. Messages have names of their own and are only ever added, so
// the union of both is the conversation; of what can change (an answer that grows, the shown branch, title, settings) the later counts.

const GROWS = ["text", "files", "state", "usage", "error", "problem", "leftOut", "changed"];
const SETTINGS = ["system", "sampling", "trim"];

/**
 * Brings what `other` knows into `own`, in which no message gets another place. `isOurs` says which messages are being written
 * here, and so are newer than anything that was stored. Gives whether anything in `own` is new.
 */
export function merge(own, other, isOurs = () => false) {
  let news = false;
  const places = new Map(own.messages.map((message, at) => [message.id, at]));
  const placeOf = (at) => (at === null ? null : places.get(other.messages[at].id));
  for (const theirs of other.messages) {
    const mine = own.messages[places.get(theirs.id)];
    if (mine === undefined) {
      places.set(theirs.id, own.messages.length);
      own.messages.push({ ...theirs, parent: placeOf(theirs.parent), chosen: null });
      news = true;
    } else if (!isOurs(mine) && theirs.changed >= mine.changed) {
      // At the same time they differ only in whether a running answer is known to be written still.
      news ||= ["text", "state", "error", "problem"].some((name) => mine[name] !== theirs[name]);
      for (const name of GROWS) mine[name] = theirs[name];
    }
  }
  for (const theirs of [other, ...other.messages]) {
    const mine = theirs === other ? own : own.messages[places.get(theirs.id)];
    const chosen = placeOf(theirs.chosen);
    if (chosen === null || chosen === mine.chosen) continue;
    const isLater = theirs.chosenAt === mine.chosenAt ? own.messages[chosen].id > own.messages[mine.chosen]?.id : theirs.chosenAt > mine.chosenAt;
    if (mine.chosen !== null && !isLater) continue;
    mine.chosen = chosen;
    mine.chosenAt = theirs.chosenAt;
    news = true;
  }
  const later = (time, names) => {
    if (other[time] <= own[time]) return;
    for (const name of [time, ...names]) own[name] = other[name];
    news = true;
  };
  later("titled", ["title"]);
  later("configured", SETTINGS);
  own.updated = Math.max(own.updated, other.updated);
  return news;
}
