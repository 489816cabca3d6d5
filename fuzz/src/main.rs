//! Fills the corpus of every target with its seeds.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let seeds = jetlinks_bridge_fuzz::seeds::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"))?;
    println!("{seeds} seeds are in fuzz/corpus");
    Ok(())
}
