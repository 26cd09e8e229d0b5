//! Byte-pair merging: the one algorithm behind every vocabulary that this module reads itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::error::{Error, Result};

const NONE: usize = usize::MAX;

/// A run of the text that is, or may become, one token.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    /// Where it is in the text, in bytes.
    pub(super) range: Range<usize>,
    /// Its token, if it has one.
    pub(super) id: Option<u32>,
    prev: usize,
    next: usize,
}

/// What two neighbours may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merge {
    /// Lower merges first; equal ranks merge from the left.
    pub(super) rank: u32,
    /// The token that the two become.
    pub(super) id: u32,
}

/// A merge that was possible when it was pushed. Ordered by rank, then by place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    right: usize,
    end: usize,
    id: u32,
}

/// Merges neighbours, the lowest rank first, until none can merge.
///
/// `parts` are neighbouring ranges of a text with their tokens; `rule` says what two symbols may
/// become. O(n log n) for n parts, whatever the text.
///
/// # Errors
///
/// [`Error::OutOfMemory`]: the list and the queue take about a hundred bytes a part.
pub(super) fn merge_all(
    parts: impl Iterator<Item = (Range<usize>, Option<u32>)>,
    rule: impl Fn(&Symbol, &Symbol) -> Option<Merge>,
) -> Result<impl Iterator<Item = Symbol>> {
    let mut symbols = Vec::new();
    symbols.try_reserve(parts.size_hint().0).map_err(|_| no_room(&symbols))?;
    for (i, (range, id)) in parts.enumerate() {
        symbols.try_reserve(1).map_err(|_| no_room(&symbols))?;
        symbols.push(Symbol { range, id, prev: i.wrapping_sub(1), next: i + 1 });
    }
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    let mut queue = BinaryHeap::new();
    queue.try_reserve(symbols.len()).map_err(|_| no_room(&symbols))?;
    for left in 1..symbols.len() {
        push(&mut queue, &symbols, left - 1, left, &rule)?;
    }
    while let Some(Reverse(top)) = queue.pop() {
        let (left, right) = (&symbols[top.left], &symbols[top.right]);
        // One of the two was merged meanwhile: symbols only grow, and eaten ones are empty.
        if left.next != top.right || left.range.is_empty() || right.range.end != top.end {
            continue;
        }
        let (prev, next) = (left.prev, right.next);
        symbols[top.left].range.end = top.end;
        symbols[top.left].id = Some(top.id);
        symbols[top.left].next = next;
        symbols[top.right].range = top.end..top.end;
        if prev != NONE {
            push(&mut queue, &symbols, prev, top.left, &rule)?;
        }
        if next != NONE {
            symbols[next].prev = top.left;
            push(&mut queue, &symbols, top.left, next, &rule)?;
        }
    }
    Ok(symbols.into_iter().filter(|symbol| !symbol.range.is_empty()))
}

/// The error for as many more bytes as the symbols have: lists grow by doubling.
fn no_room(symbols: &[Symbol]) -> Error {
    Error::OutOfMemory { bytes: size_of_val(symbols) }
}

fn push(
    queue: &mut BinaryHeap<Reverse<Candidate>>,
    symbols: &[Symbol],
    left: usize,
    right: usize,
    rule: &impl Fn(&Symbol, &Symbol) -> Option<Merge>,
) -> Result<()> {
    if let Some(Merge { rank, id }) = rule(&symbols[left], &symbols[right]) {
        queue.try_reserve(1).map_err(|_| no_room(symbols))?;
        queue.push(Reverse(Candidate { rank, left, right, end: symbols[right].range.end, id }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges the characters of `text` by a list of spellings, most urgent first.
    fn merged<'a>(text: &'a str, spellings: &[&[&str]]) -> Vec<&'a str> {
        let parts = text.char_indices().map(|(i, c)| (i..i + c.len_utf8(), None));
        let rule = |left: &Symbol, right: &Symbol| {
            let piece = &text[left.range.start..right.range.end];
            let rank = spellings.iter().position(|equal| equal.contains(&piece))?;
            Some(Merge { rank: rank as u32, id: 0 })
        };
        merge_all(parts, rule).unwrap().map(|symbol| &text[symbol.range]).collect()
    }

    #[test]
    fn lowest_rank_first_and_leftmost_on_ties() {
        type Case<'a> = (&'a str, &'a [&'a [&'a str]], &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            ("", &[], &[]),
            ("a", &[&["a"]], &["a"]),
            ("abc", &[&["bc"], &["ab"]], &["a", "bc"]),
            ("abc", &[&["bc", "ab"]], &["ab", "c"]),
            ("aaaaa", &[&["aa"], &["aaaa"]], &["aaaa", "a"]),
            ("aaaa", &[&["aa"], &["aaa"]], &["aa", "aa"]),
        ];
        for (text, spellings, expected) in cases {
            assert_eq!(merged(text, spellings), expected, "{text} {spellings:?}");
        }
    }
}
