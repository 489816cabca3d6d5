//! Fills the corpus of every target with its seeds.

fn main() -> std::io::Result<()> {
    let seeds = jetlinks_bridge_fuzz::seeds::write()?;
    println!("{seeds} seeds are in fuzz/corpus");
    Ok(())
}
