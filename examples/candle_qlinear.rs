//! A candle model with 4-bit linear layers: `QLinear` stands where `candle_nn::Linear` stood.
//!
//! `cargo run -p halfbyte-examples --example candle_qlinear`

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use candle_core::{Device, Module, Tensor};
use candle_nn::Linear;
use halfbyte::QLinear;
use halfbyte::quant::Encoding;

/// Width, and width of the middle; any whole number of blocks of 32 will do.
const E: usize = 256;
const F: usize = 1024;

fn main() -> anyhow::Result<()> {
    let device = Device::Cpu;
    let up = Tensor::randn(0f32, 1.0 / 16.0, (F, E), &device)?;
    let down = Tensor::randn(0f32, 1.0 / 32.0, (E, F), &device)?;
    let x = Tensor::randn(0f32, 1.0, (4, E), &device)?;

    let full = mlp(&Linear::new(up.clone(), None), &Linear::new(down.clone(), None), &x)?;
    for encoding in [Encoding::Q8_0, Encoding::Q4_0] {
        let up = QLinear::from_tensor(&up, encoding)?;
        let down = QLinear::from_tensor(&down, encoding)?;
        let error = relative_rms(&mlp(&up, &down, &x)?, &full)?;
        println!("{}: {:.2} % from f32", encoding.name(), 100.0 * error);
    }
    Ok(())
}

/// A feed-forward block over any linear layers: x (rows, E) → (rows, E).
fn mlp(up: &impl Module, down: &impl Module, x: &Tensor) -> candle_core::Result<Tensor> {
    down.forward(&up.forward(x)?.gelu()?)
}

/// The root of the mean squared difference, relative to `expected`.
fn relative_rms(found: &Tensor, expected: &Tensor) -> candle_core::Result<f32> {
    let error = (found - expected)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
    Ok((error / expected.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}
