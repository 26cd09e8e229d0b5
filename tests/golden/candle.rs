//! candle-transformers as a second oracle beside transformers.

use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama;
use halfbyte::io::Checkpoint;
use halfbyte::reference::Reference;
use halfbyte_tests::{Rows, golden_file, shared, skip};

use crate::{Tolerance, to_vec};

#[test]
fn candle_transformers_is_a_second_oracle() -> Result<()> {
    let Some(root) = shared() else {
        skip("candle-transformers as an oracle");
        return Ok(());
    };
    let mut rows = Rows::default();
    for name in ["llama-tiny-mha", "llama-tiny-gqa-tied", "llama-tiny-llama3rope"] {
        rows.run(name, |rows| {
            let folder = root.join("data/models").join(name);
            let theirs = CandleLlama::load(&folder)?;
            let ours = Reference::load(&Checkpoint::open(&folder)?)?;
            for prompt in golden_file::read(&folder.join("golden"))? {
                let expected = theirs.last_logits(&prompt.ids)?;
                let logits = to_vec(&ours.forward(&prompt.ids)?)?;
                let found = &logits[logits.len() - expected.len()..];
                Tolerance::MaxAbs(1e-4).check(
                    rows,
                    &format!("{name} {}", prompt.name),
                    found,
                    &expected,
                );
            }
            Ok(())
        });
    }
    rows.finish()
}

/// candle-transformers' own LLaMA, reading the Hugging Face folder by itself.
struct CandleLlama {
    model: llama::Llama,
    config: llama::Config,
}

impl CandleLlama {
    fn load(folder: &Path) -> Result<Self> {
        let json = std::fs::read(folder.join("config.json"))?;
        let config: llama::LlamaConfig = serde_json::from_slice(&json)?;
        let config = config.into_config(false);
        let weights = std::fs::read(folder.join("model.safetensors"))?;
        let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)?;
        Ok(Self { model: llama::Llama::load(weights, &config)?, config })
    }

    fn last_logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut cache = llama::Cache::new(false, DType::F32, &self.config, &Device::Cpu)?;
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        to_vec(&self.model.forward(&ids, 0, &mut cache)?)
    }
}
