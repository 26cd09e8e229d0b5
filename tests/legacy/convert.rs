//! What `halfbyte quantize` makes of files of 2023.

use anyhow::{Context, Result, bail, ensure};
use halfbyte::io::Checkpoint;
use halfbyte::model::ModelConfig;
use halfbyte::quant::Encoding;
use halfbyte::tokenizer::{Specials, Tokenizer};
use halfbyte::{Adapter, Cancel, Error, QuantizeType, quantize, quantize_merged};
use halfbyte_tests::Rows;
use halfbyte_tests::adapters::Lora;
use halfbyte_tests::legacy_files::{Model, of_gguf};

use crate::{CASES, open, values};

#[test]
fn keep_leaves_every_value_and_uses_todays_blocks_where_it_can() -> Result<()> {
    let keep = QuantizeType::from_name("keep").context("a type")?;
    let mut rows = Rows::default();
    // Scales that f16 holds, and scales that it does not.
    for (&(name, model, encoding, kind), scale) in
        CASES.iter().flat_map(|case| [(case, 1.0), (case, 1.000_3)])
    {
        let row = format!("{} {} × {scale}", model.name(), encoding.name());
        rows.run(&row, |rows| {
            let folder = tempfile::tempdir()?;
            let (old, new) = (folder.path().join("old.bin"), folder.path().join("new.gguf"));
            of_gguf(&open(name)?, model, (encoding, kind), scale).write(&old);
            let old = Checkpoint::open(old)?;
            let report = quantize(&old, &new, keep, &Cancel::new(), &mut |_, _| {})?;
            let new = Checkpoint::open(new)?;
            rows.check(&row, values(&old)? == values(&new)?, "values differ");
            let wide = !matches!(
                encoding,
                Encoding::Q5_0_V1
                    | Encoding::Q5_1_V1
                    | Encoding::F32
                    | Encoding::Q4_0
                    | Encoding::Q8_0
            );
            let stays = matches!(encoding, Encoding::Q4_2 | Encoding::Q4_3) || wide && scale != 1.0;
            let stored = new.require("blk.0.ffn_up.weight")?.encoding();
            rows.check(&row, stored.is_of_2023() == stays, format!("is {}", stored.name()));
            rows.check(&row, (report.kept_of_2023 > 0) == stays, report.kept_of_2023);
            let ids =
                |c: &Checkpoint| Tokenizer::from_checkpoint(c)?.encode("abc", Specials::AsText);
            rows.check(&row, ids(&old)? == ids(&new)?, "tokens differ");
            Ok(())
        });
    }
    rows.finish()
}

#[test]
fn adapters_are_refused_where_a_kept_encoding_can_only_be_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let (old, new, lora) = (at("old.bin"), at("new.gguf"), at("lora.gguf"));
    of_gguf(&open("gptj-1k.q4_0.gguf")?, Model::GptJ, (Encoding::Q4_2, 4), 1.0).write(&old);
    let old = Checkpoint::open(old)?;
    let config = ModelConfig::from_checkpoint(&old)?;
    Lora::random(&config, 1, 2, &["ffn_down"]).gguf().write(&lora);
    let adapters = [(Adapter::open(&lora, &config)?, 1.0)];
    let kind = |name| QuantizeType::from_name(name).context("a type");
    let merge = |kind, progress: &mut dyn FnMut(u64, u64)| {
        quantize_merged((&old, &adapters), &new, kind, &Cancel::new(), progress)
    };
    let mut read = 0;
    match merge(kind("keep")?, &mut |done, _| read = done) {
        Err(Error::UnsupportedEncoding { found, supported }) => {
            let named = found.contains("Q4_2") && found.contains("blk.0.ffn_down.weight");
            ensure!(named && supported.contains("Q4_0"), "{found} {supported}");
        }
        other => bail!("{other:?}"),
    }
    ensure!(read == 0 && !new.exists(), "found after {read} bytes");
    merge(kind("q4_0")?, &mut |_, _| {})?;
    Ok(())
}

#[test]
fn quantizing_to_todays_name_keeps_codes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (old, new) = (folder.path().join("old.bin"), folder.path().join("new.gguf"));
    let source = open("gptj-1k.q4_0.gguf")?;
    of_gguf(&source, Model::GptJ, (Encoding::Q4_0_V1, 2), 1.000_3).write(&old);
    let q4_0 = QuantizeType::from_name("q4_0").context("a type")?;
    quantize(&Checkpoint::open(&old)?, &new, q4_0, &Cancel::new(), &mut |_, _| {})?;
    let (source, new) =
        (source.require("blk.0.ffn_up.weight")?.row(3).to_vec(), Checkpoint::open(new)?);
    let row = new.require("blk.0.ffn_up.weight")?.row(3).to_vec();
    for (want, found) in source.chunks_exact(18).zip(row.chunks_exact(18)) {
        ensure!(want[2..] == found[2..], "codes changed");
    }
    let merges = new.metadata().strings("tokenizer.ggml.merges")?.context("merges for others")?;
    let want = open("gptj-1k.q4_0.gguf")?;
    let want = want.metadata().strings("tokenizer.ggml.merges")?.context("merges")?;
    ensure!(merges == want, "merges differ from those that the vocabulary was trained with");
    Ok(())
}
