//! Every target's program: which one it is, its name says.
//!
//! Its seeds are laid into `corpus/TARGET` when nothing is there, before libFuzzer reads it.

#![no_main]

use std::path::Path;

use halfbyte_tests::fuzzing::{Target, find};

const TARGET: Target = find(env!("CARGO_BIN_NAME"));

libfuzzer_sys::fuzz_target!(init: lay_seeds(), |bytes: &[u8]| {
    (TARGET.run)(bytes);
});

fn lay_seeds() {
    let folder = Path::new("corpus").join(TARGET.name);
    if std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some()) {
        return;
    }
    let seeds = (TARGET.seeds)();
    std::fs::create_dir_all(&folder).expect("run in fuzz/, which can be written");
    for (i, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{i}")), seed).expect("a folder just made");
    }
}
