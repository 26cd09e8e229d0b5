//! Sound inputs that memory is too small for.

use anyhow::Result;
use halfbyte::Error;
use halfbyte::io::{Metadata, TokenizerSource};
use halfbyte::tokenizer::{Specials, Tokenizer};
use halfbyte_tests::data;

use crate::case;

#[test]
fn texts_that_memory_cannot_hold_are_errors() -> Result<()> {
    let _alone = case::alone();
    let text = "Once upon a time, \u{e9}t\u{e9}  (a dog) ".repeat(1 << 13);
    for name in ["own.model", "bytes.model"] {
        let bytes = std::fs::read(data().join("unigram").join(name))?;
        let source = TokenizerSource::SentencePiece(bytes);
        let tokenizer = Tokenizer::new(&source, &Metadata::default())?;
        let encode = || tokenizer.encode(&text, Specials::AsText);
        let whole = encode()?;
        let (mut encoded, mut refused) = (0, 0);
        for largest in (10..26).map(|bits| 1 << bits) {
            match case::within(largest, encode) {
                Ok(ids) => {
                    assert_eq!(ids, whole, "{name} with blocks of {largest} bytes");
                    encoded += 1;
                }
                Err(Error::OutOfMemory { .. }) => refused += 1,
                Err(other) => panic!("{name} with blocks of {largest} bytes: {other}"),
            }
        }
        // The text has 250 kB, its table 24 times as many.
        assert!(encoded >= 1 && refused >= 10, "{name}: {encoded} encoded, {refused} refused");
    }
    Ok(())
}
