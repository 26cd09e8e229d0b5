//! The beginnings of texts that earlier requests had read.

use halfbyte::{Hooks, Session};

/// A beginning shorter than this is read sooner than looked for.
const LEAST: usize = 4;

/// Sessions that nobody works on, kept for what they have read; the least recently used goes first.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    /// The least recently used first.
    sessions: Vec<Session>,
}

/// How many of `tokens`, from the first one on, `session` has keys and values of.
pub(super) fn n_common(session: &Session, tokens: &[u32]) -> usize {
    session.cached_tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count()
}

impl PrefixCache {
    /// A copy of the session that has read most of `tokens`, and how many it has.
    pub(super) fn find(&mut self, tokens: &[u32]) -> Option<(Session, usize)> {
        let counts = self.sessions.iter().map(|session| n_common(session, tokens));
        let (i, n) = counts.enumerate().max_by_key(|(_, n)| *n).filter(|(_, n)| *n >= LEAST)?;
        let session = self.sessions.remove(i);
        let fork = session.fork();
        self.sessions.push(session);
        Some((fork, n))
    }

    /// Keeps what `session` has read; those that it continues are no longer needed.
    pub(super) fn insert(&mut self, mut session: Session, budget: usize) {
        let read = session.cached_tokens();
        if read.len() < LEAST {
            return;
        }
        self.sessions.retain(|old| !read.starts_with(old.cached_tokens()));
        session.set_hooks(Hooks::default());
        self.sessions.push(session);
        self.shrink(budget);
    }

    /// Gives up the least recently used until the rest takes at most `budget` bytes.
    pub(super) fn shrink(&mut self, budget: usize) {
        while !self.sessions.is_empty() && self.n_bytes() > budget {
            self.sessions.remove(0);
        }
    }

    /// Bytes of all sessions; what they share counts for each.
    pub(super) fn n_bytes(&self) -> usize {
        self.sessions.iter().map(Session::cache_bytes).sum()
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
        assert_eq!(cache.find(&a).map(|(_, n)| n), Some(6));
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
        cache.shrink(0);
        assert_eq!((cache.len(), cache.n_bytes()), (0, 0));
    }
}
