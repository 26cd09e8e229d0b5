//! Writes the seeds of every target into `corpus/TARGET`, from where `cargo fuzz` reads them.

fn main() -> std::io::Result<()> {
    for target in halfbyte_tests::fuzzing::TARGETS {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (i, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i}")), seed)?;
        }
    }
    Ok(())
}
