//! Code blocks and tables of the documents, for tests that execute them.

use std::fs;
use std::path::Path;

/// The indented blocks of a file below `docs/`, each without its indentation.
///
/// # Panics
/// When there is no such file.
pub(crate) fn blocks(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut blocks: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(content) => {
                if !is_open {
                    blocks.push(String::new());
                }
                let block = blocks.last_mut().expect("one was just begun");
                block.push_str(content);
                block.push('\n');
                is_open = true;
            }
            // An empty line ends a block unless more of it follows.
            None if line.is_empty() && is_open => blocks.last_mut().expect("it is open").push('\n'),
            None => is_open = false,
        }
    }
    blocks
}

/// The one block of a file below `docs/` that holds this text.
///
/// # Panics
/// When none does, or several.
pub(crate) fn block(name: &str, text: &str) -> String {
    let mut found: Vec<String> = blocks(name).into_iter().filter(|block| block.contains(text)).collect();
    assert_eq!(found.len(), 1, "blocks of {name} with {text:?}");
    found.remove(0)
}
