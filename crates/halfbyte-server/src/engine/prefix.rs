//! The beginnings of texts that earlier requests had read.

use std::collections::VecDeque;

use halfbyte::{Hooks, Session};

/// A beginning shorter than this is read sooner than looked for.
const LEAST: usize = 4;

/// Sessions that are kept: every new text is compared with each.
const MOST: usize = 1024;

/// Sessions that nobody works on, kept for what they have read; the least recently used goes first.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    /// The least recently used first.
    sessions: VecDeque<Session>,
    /// Bytes of all; what they share counts for each.
    n_bytes: usize,
}

impl PrefixCache {
    /// The session that has read most of `tokens`, and how many it has. It is a copy, unless it has
    /// read nothing else: then whoever gets it goes on from it, and brings it back.
    pub(super) fn find(&mut self, tokens: &[u32]) -> Option<(Session, usize)> {
        let counts = self.sessions.iter().map(|session| session.n_common(tokens));
        let (i, n) = counts.enumerate().max_by_key(|(_, n)| *n).filter(|(_, n)| *n >= LEAST)?;
        let session = self.sessions.remove(i)?;
        if session.cached_tokens().len() == n {
            self.n_bytes -= session.cache_bytes();
            return Some((session, n));
        }
        let fork = session.fork();
        self.sessions.push_back(session);
        Some((fork, n))
    }

    /// Keeps what `session` has read; those that it continues are no longer needed.
    pub(super) fn insert(&mut self, mut session: Session, budget: usize) {
        let read = session.cached_tokens();
        if read.len() < LEAST {
            return;
        }
        let longer = self.sessions.iter().position(|old| old.cached_tokens().starts_with(read));
        if let Some(longer) = longer.and_then(|i| self.sessions.remove(i)) {
            self.sessions.push_back(longer);
            return;
        }
        self.sessions.retain(|old| {
            let stays = !read.starts_with(old.cached_tokens());
            self.n_bytes -= if stays { 0 } else { old.cache_bytes() };
            stays
        });
        session.set_hooks(Hooks::default());
        self.n_bytes += session.cache_bytes();
        self.sessions.push_back(session);
        self.shrink(budget);
    }

    /// Gives up the least recently used until the rest takes at most `budget` bytes.
    pub(super) fn shrink(&mut self, budget: usize) {
        while self.n_bytes > budget || self.sessions.len() > MOST {
            let Some(oldest) = self.sessions.pop_front() else { break };
            self.n_bytes -= oldest.cache_bytes();
        }
    }

    /// Bytes of all sessions; what they share counts for each.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use halfbyte::{Model, ModelOptions};

    use super::*;

    fn session(tokens: &[u32]) -> Session {
        static MODEL: OnceLock<Model> = OnceLock::new();
        let model = MODEL.get_or_init(|| {
            let options = ModelOptions::default();
            let bytes = halfbyte_model::BYTES;
            Model::from_static_bytes(halfbyte_model::NAME, bytes, &options).expect("it opens")
        });
        let mut session = model.session();
        session.append_tokens(tokens).expect("the tokens are good");
        session
    }

    #[test]
    fn the_longest_common_beginning_is_found_and_the_oldest_goes_first() {
        let mut cache = PrefixCache::default();
        let (a, b) = ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 9, 9, 9]);
        let size = session(&a).cache_bytes();
        cache.insert(session(&a), usize::MAX);
        cache.insert(session(&b), usize::MAX);
        assert_eq!(cache.find(&[1, 2, 3, 4, 5, 7]).map(|(_, n)| n), Some(5));
        assert_eq!(cache.find(&[1, 2, 3, 4, 9, 9]).map(|(_, n)| n), Some(6));
        assert!(cache.find(&[1, 2, 3]).is_none() && cache.find(&[7; 9]).is_none());
        // Now `a` was used last, and makes `b` the one to go.
        assert_eq!(cache.find(&[1, 2, 3, 4, 5, 7]).map(|(_, n)| n), Some(5));
        assert_eq!(cache.n_bytes(), 2 * size);
        cache.shrink(2 * size - 1);
        assert_eq!(cache.find(&b).map(|(_, n)| n), Some(4));
        cache.shrink(size);
        assert_eq!(cache.len(), 1);
        // What goes on from a session takes its place.
        cache.insert(session(&[1, 2, 3, 4, 5, 6, 7, 8]), usize::MAX);
        assert_eq!(cache.len(), 1);
        cache.insert(session(&[1, 2]), usize::MAX);
        assert_eq!(cache.len(), 1);
        // What it has read already is not kept twice, and who goes on from it takes it along.
        cache.insert(session(&[1, 2, 3, 4, 5, 6]), usize::MAX);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.find(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).map(|(_, n)| n), Some(8));
        assert_eq!((cache.len(), cache.n_bytes()), (0, 0));
        for i in 0..MOST as u32 + 5 {
            cache.insert(session(&[i; 4]), usize::MAX);
        }
        assert_eq!(cache.len(), MOST, "more are not kept, however small they are");
        cache.shrink(0);
        assert_eq!((cache.len(), cache.n_bytes()), (0, 0));
    }
}
