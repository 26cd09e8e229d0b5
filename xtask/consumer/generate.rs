use halfbyte::{GenerationConfig, Model, ModelOptions};

fn main() -> halfbyte::Result<()> {
    let (name, bytes) = (halfbyte_model::NAME, halfbyte_model::BYTES);
    let model = Model::from_static_bytes(name, bytes, &ModelOptions::default())?;
    let mut session = model.session();
    for piece in session.generate("Once upon a time", &GenerationConfig::default())? {
        print!("{}", piece?.text);
    }
    Ok(())
}
