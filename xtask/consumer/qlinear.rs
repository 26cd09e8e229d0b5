//! A candle model on our linear layers, against the same model on candle's own quantized ones.

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Result, Tensor};
use candle_nn::Linear;
use halfbyte::QLinear;
use halfbyte::quant::Encoding;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let up = noise(1024, 256, 1.0 / 16.0)?;
    let down = noise(256, 1024, 1.0 / 32.0)?;
    let x = noise(16, 256, 1.0)?;
    let exact = |w: &Tensor| Linear::new(w.clone(), None);
    let full = mlp(&exact(&up), &exact(&down), &x)?;
    for (encoding, dtype) in [(Encoding::Q4_0, GgmlDType::Q4_0), (Encoding::Q8_0, GgmlDType::Q8_0)]
    {
        let ours = |w: &Tensor| QLinear::from_tensor(w, encoding);
        let candles = |w: &Tensor| QMatMul::from_qtensor(QTensor::quantize(w, dtype)?);
        let ours = mlp(&ours(&up)?, &ours(&down)?, &x)?;
        let candles = mlp(&candles(&up)?, &candles(&down)?, &x)?;
        let (distance, from_full, candles_from_full) =
            (relative(&ours, &candles)?, relative(&ours, &full)?, relative(&candles, &full)?);
        println!(
            "{dtype:?}: {distance:.4} from candle's own; from f32 {from_full:.4}, candle {candles_from_full:.4}"
        );
        assert!(from_full <= 1.02 * candles_from_full, "farther from f32 than candle");
        // candle rounds the activations of Q8_0 more coarsely, so there the two differ by its error,
        // and we compare with its f32 layers.
        let error = if dtype == GgmlDType::Q8_0 { from_full } else { distance };
        assert!(error <= 0.01, "more than 1 % from candle's own");
    }
    Ok(())
}

/// (rows, columns) of even noise between -size and size, the same in every run.
fn noise(rows: usize, columns: usize, size: f32) -> Result<Tensor> {
    let mut state = rows as u32;
    let draws = (0..rows * columns).map(|_| {
        // Numerical Recipes' generator; its upper bits are good.
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        size * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    });
    Tensor::from_iter(draws, &Device::Cpu)?.reshape((rows, columns))
}

fn mlp(up: &impl Module, down: &impl Module, x: &Tensor) -> Result<Tensor> {
    down.forward(&up.forward(x)?.gelu()?)
}

/// The root of the mean squared difference, relative to `expected`.
fn relative(found: &Tensor, expected: &Tensor) -> Result<f32> {
    let error = (found - expected)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
    Ok((error / expected.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}
