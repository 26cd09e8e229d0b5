//! How a long text is cut into windows, so that each scored token stands after others.

use crate::error::{Error, Result};

/// How a long text is cut so that its tokens are scored after others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// Windows of `window` tokens that move by `stride`: each token is scored once, in the first
    /// window that holds it, after all that stands before it in that window.
    ///
    /// Source: "Perplexity of fixed-length models", Hugging Face transformers documentation.
    Strided {
        /// Tokens that the model reads at once.
        window: usize,
        /// Tokens by which the window moves.
        stride: usize,
    },
    /// Windows that lie side by side, of each of which the second half is scored; what is left at
    /// the end of the text is not.
    ///
    /// Source: `llama-perplexity` of llama.cpp, which scores the last `window` − 1 − ⌊`window` / 2⌋
    /// tokens of each window.
    SecondHalves {
        /// Tokens that the model reads at once.
        window: usize,
    },
}

/// Tokens that are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) begin: usize,
    pub(super) end: usize,
    /// The first token, counted from `begin`, after which the next one is scored.
    pub(super) from: usize,
}

impl Window {
    /// Tokens of it that are scored.
    fn n_scored(self) -> usize {
        self.end - self.begin - 1 - self.from
    }
}

impl Protocol {
    /// Tokens that the model reads at once.
    pub fn window(&self) -> usize {
        match *self {
            Self::Strided { window, .. } | Self::SecondHalves { window } => window,
        }
    }

    /// Tokens that are scored of a text of `n_tokens`.
    pub fn n_scored(&self, n_tokens: usize) -> usize {
        match *self {
            // With stride = window the first token of every window has nothing before it.
            Self::Strided { .. } => self.windows(n_tokens).map(Window::n_scored).sum(),
            Self::SecondHalves { window } if window >= 2 => {
                n_tokens / window * (window - 1 - window / 2)
            }
            Self::SecondHalves { .. } => 0,
        }
    }

    /// The windows of a text of `n_tokens`; for a protocol that [`check`](Self::check) passed.
    pub(super) fn windows(self, n_tokens: usize) -> impl Iterator<Item = Window> {
        let (mut begin, mut scored) = (0, 1);
        std::iter::from_fn(move || match self {
            Self::Strided { window, stride } => {
                if scored >= n_tokens || stride == 0 || window < 2 {
                    return None;
                }
                let end = n_tokens.min(begin + window);
                let found = Window { begin, end, from: scored.max(begin + 1) - begin - 1 };
                scored = end;
                begin += stride;
                Some(found)
            }
            Self::SecondHalves { window } => {
                let end = begin + window;
                if window < 2 || end > n_tokens {
                    return None;
                }
                let found = Window { begin, end, from: window / 2 };
                begin = end;
                Some(found)
            }
        })
    }

    /// Whether windows fit a context of `context_length` and a text of `n_tokens`.
    pub(super) fn check(self, context_length: usize, n_tokens: usize) -> Result<()> {
        let window = self.window();
        let least = if matches!(self, Self::SecondHalves { .. }) { 4 } else { 2 };
        if !(least..=context_length).contains(&window) {
            let reason = format!("{window} is not between {least} and {context_length}");
            return Err(Error::config("window", reason));
        }
        if let Self::Strided { stride, .. } = self
            && !(1..=window).contains(&stride)
        {
            return Err(Error::config("stride", format!("{stride} is not between 1 and {window}")));
        }
        if n_tokens < 2 {
            return Err(Error::config("text", "holds less than two tokens"));
        }
        if matches!(self, Self::SecondHalves { .. }) && n_tokens < window {
            let reason = format!("holds {n_tokens} tokens, which do not fill a window of {window}");
            return Err(Error::config("text", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(protocol: Protocol, n: usize) -> Vec<(usize, usize, usize)> {
        protocol.windows(n).map(|w| (w.begin, w.end, w.from)).collect()
    }

    #[test]
    fn each_token_is_scored_once() {
        for n in 2..40 {
            for window in 2..12 {
                for stride in 1..=window {
                    let protocol = Protocol::Strided { window, stride };
                    let mut scored: Vec<usize> =
                        protocol.windows(n).flat_map(|w| w.begin + w.from + 1..w.end).collect();
                    assert_eq!(scored.len(), protocol.n_scored(n), "{n} {window} {stride}");
                    let whole = scored.len();
                    scored.dedup();
                    assert_eq!(scored.len(), whole);
                    if stride < window {
                        assert_eq!(scored, (1..n).collect::<Vec<_>>(), "{n} {window} {stride}");
                    }
                }
            }
        }
    }

    #[test]
    fn second_halves_are_those_of_llama_cpp() {
        let protocol = Protocol::SecondHalves { window: 512 };
        assert_eq!(windows(protocol, 1300), [(0, 512, 256), (512, 1024, 256)]);
        assert_eq!(protocol.n_scored(1300), 2 * 255);
        assert_eq!(protocol.n_scored(511), 0);
        assert_eq!(windows(Protocol::SecondHalves { window: 5 }, 10), [(0, 5, 2), (5, 10, 2)]);
    }
}
