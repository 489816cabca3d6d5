//! Rules about the tree that no compiler checks: who imports whom, what lies around unused, what was left unfinished,
//! what the documents promise to exist.
#![expect(clippy::disallowed_methods, reason = "reads the tree that it was built from")]

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/words.rs"]
mod words;

/// Longest source file, in lines.
const LINES_MAX: usize = 600;

/// Allowed imports between the top-level modules of the library. A module that is not listed may import everything
/// but the last three.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &["protocol", "codec"]),
    ("codec", &["codec"]),
    ("session", &["session", "protocol", "codec"]),
    ("replica", &["replica", "session", "protocol"]),
    ("transport", &["transport", "replica", "session", "protocol", "codec"]),
    ("queue", &["queue", "replica", "session", "protocol"]),
    ("http", &["http"]),
    ("registry", &["registry", "http", "protocol"]),
    ("telemetry", &["telemetry", "http", "replica", "session", "protocol"]),
    ("config", &["config", "protocol"]),
    (
        "app",
        &["app", "transport", "queue", "registry", "config", "telemetry", "replica", "session", "protocol", "codec"],
    ),
    ("simulate", &["simulate", "app", "transport", "queue", "registry", "session", "protocol", "codec"]),
    (
        "cli",
        &[
            "cli",
            "simulate",
            "app",
            "http",
            "transport",
            "queue",
            "registry",
            "config",
            "telemetry",
            "replica",
            "session",
            "protocol",
            "codec",
        ],
    ),
];

/// Where errors may lose their type: whoever reads them there is a person.
const UNTYPED_ERRORS: &[&str] = &["src/main.rs", "src/app/", "src/cli/"];

/// The one place in tests that may let time pass.
const POLLING: &str = "tests/support/wait.rs";

#[test]
fn modules_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (name, text) in sources(&["src"]) {
        let path = module_path(&name);
        let Some((_, allowed)) = ARROWS.iter().find(|(module, _)| path.first().is_some_and(|first| first == module))
        else {
            continue;
        };
        for import in imports(&text, &path) {
            if !allowed.contains(&import.as_str()) && ARROWS.iter().any(|(module, _)| *module == import) {
                wrong.push(format!("{name} imports {import}"));
            }
        }
    }
    assert_none("a module imports what does not lie below it", &wrong);
}

#[test]
fn no_part_sees_the_whole_configuration() {
    let seeing = ["src/config/", "src/app", "src/cli/", "src/main.rs"];
    let wrong: Vec<String> = sources(&["src"])
        .into_iter()
        .filter(|(name, _)| !seeing.iter().any(|place| name.starts_with(place)))
        .filter(|(_, text)| {
            let uses = code_only(text);
            uses.split(';').any(|part| part.contains("config::") && has_word(part, "Config"))
        })
        .map(|(name, _)| name)
        .collect();
    assert_none("a part takes the whole configuration instead of its own few parameters", &wrong);
}

#[test]
fn errors_without_a_type_appear_only_where_a_person_reads_them() {
    let wrong: Vec<String> = sources(&["src"])
        .into_iter()
        .filter(|(name, text)| !UNTYPED_ERRORS.iter().any(|place| name.starts_with(place)) && has_word(text, "anyhow"))
        .map(|(name, _)| name)
        .collect();
    assert_none("anyhow outside main, app and cli", &wrong);
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    let wrong: Vec<String> = sources(&["src", "tests", "benches", "fuzz"])
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(name, lines)| format!("{name} has {lines} lines"))
        .collect();
    assert_none("a file holds more than one idea", &wrong);
}

#[test]
fn every_source_file_is_declared_by_a_module() {
    let all = sources(&["src", "tests", "benches", "fuzz"]);
    let mut declared: BTreeSet<String> =
        all.iter().map(|(name, _)| name.clone()).filter(|name| is_root(name)).collect();
    let mut open: Vec<String> = declared.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let Some((_, text)) = all.iter().find(|(other, _)| *other == name) else { continue };
        for child in declarations(&name, text) {
            if declared.insert(child.clone()) {
                open.push(child);
            }
        }
    }
    let wrong: Vec<String> = all.into_iter().map(|(name, _)| name).filter(|name| !declared.contains(name)).collect();
    assert_none("no module declares it, so nothing compiles it", &wrong);
}

#[test]
fn nothing_is_left_unfinished() {
    // In two parts each, so that this file is not found.
    let marks = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ig", "nore"),
    ];
    let mut wrong = Vec::new();
    for (name, text) in files(&["."], &["rs", "md", "toml", "yaml", "yml", "sh", "py"]) {
        for (number, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                wrong.push(format!("{name}:{}: {mark}", number + 1));
            }
        }
    }
    assert_none("unfinished by its own word", &wrong);
}

#[test]
fn tests_wait_for_conditions_and_never_for_time() {
    let waits = ["thread::sleep", "time::sleep", "park_timeout"];
    let mut wrong = Vec::new();
    for (name, text) in sources(&["tests"]) {
        if name == POLLING {
            continue;
        }
        let code = code_only(&text);
        for (number, line) in code.lines().enumerate() {
            if waits.iter().any(|wait| line.contains(wait)) {
                wrong.push(format!("{name}:{}", number + 1));
            }
        }
    }
    assert_none("waits for time; `support::eventually` waits for a condition", &wrong);
}

#[test]
fn links_between_documents_resolve() {
    let mut wrong = Vec::new();
    for (name, text) in files(&["."], &["md"]) {
        for target in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let document = if file.is_empty() { name.clone() } else { join(parent(&name), file) };
            let path = root().join(&document);
            if !path.exists() {
                wrong.push(format!("{name}: {target}"));
            } else if !anchor.is_empty() && document.ends_with(".md") {
                let there = anchors(&fs::read_to_string(&path).unwrap());
                if !there.contains(anchor) {
                    wrong.push(format!("{name}: {target}: no such heading"));
                }
            }
        }
    }
    assert_none("a link leads nowhere", &wrong);
}

#[test]
fn files_that_documents_name_exist() {
    let mut wrong = Vec::new();
    for (name, text) in files(&["."], &["md"]) {
        for path in named_paths(&text) {
            if !root().join(&path).exists() {
                wrong.push(format!("{name}: {path}"));
            }
        }
    }
    assert_none("a document names a file that does not exist", &wrong);
}

fn assert_none(what: &str, wrong: &[String]) {
    let list = wrong.iter().fold(String::new(), |mut list, line| {
        let _ = write!(list, "\n  {line}");
        list
    });
    assert!(wrong.is_empty(), "{what}:{list}");
}

fn root() -> PathBuf {
    // At run time, not at build time: a build folder may be shared between checkouts.
    PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests"))
}

/// Rust files below these folders, with their text; names are relative to the root and use `/`.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    files(folders, &["rs"])
}

fn files(folders: &[&str], endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("the tree can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                // What is built, installed or fetched is nobody's source.
                let skipped = [".git", ".tools", "target", "corpus", "artifacts", "node_modules"];
                if !skipped.contains(&name) {
                    open.push(path);
                }
            } else if path.extension().and_then(|ending| ending.to_str()).is_some_and(|e| endings.contains(&e)) {
                let text = fs::read_to_string(&path).expect("sources are text");
                found.push((relative(&path), text));
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    let root = root();
    let parts = path.strip_prefix(&root).unwrap_or(path).components();
    let parts: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).filter(|part| part != ".").collect();
    parts.join("/")
}

/// Whether cargo compiles the file by itself.
fn is_root(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(
        parts[..],
        ["src", "lib.rs" | "main.rs"]
            | ["tests" | "benches", _]
            | ["tests" | "benches", _, "main.rs"]
            | ["fuzz", "fuzz_targets", _]
            | ["fuzz", "src", "lib.rs" | "main.rs"]
    )
}

/// `src/queue/nats/mod.rs` is `["queue", "nats"]`; the roots are empty.
fn module_path(name: &str) -> Vec<String> {
    let inside = name.strip_prefix("src/").unwrap_or(name);
    let inside = inside.strip_suffix(".rs").unwrap_or(inside);
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    if inside == "lib" || inside == "main" {
        return Vec::new();
    }
    inside.split('/').map(str::to_owned).collect()
}

/// Top-level modules that the code names by `crate::` or by enough `super::`.
fn imports(text: &str, module: &[String]) -> BTreeSet<String> {
    let code: String = code_only(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_name_character) {
            found.extend(first_names(&code[at + "crate::".len()..]));
        }
    }
    let to_root = "super::".repeat(module.len());
    if !module.is_empty() {
        for (at, _) in code.match_indices(&to_root) {
            let rest = &code[at + to_root.len()..];
            if !code[..at].ends_with("super::") && !rest.starts_with("super::") {
                found.extend(first_names(rest));
            }
        }
    }
    found
}

/// The names at the front of `a::b`, or of each item of `{a::b, c}`.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return Vec::from_iter(leading_name(rest));
    };
    let (mut names, mut depth, mut item) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.extend(leading_name(&std::mem::take(&mut item))),
            _ => item.push(c),
        }
    }
    names.extend(leading_name(&item));
    names
}

fn leading_name(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| is_name_character(*c)).collect();
    (!name.is_empty()).then_some(name)
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether the code of a source has the word.
fn has_word(text: &str, word: &str) -> bool {
    holds_word(&code_only(text), word)
}

fn holds_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_name_character) && !text[at + word.len()..].starts_with(is_name_character)
    })
}

/// Files that `mod name;` in this file stands for, with `#[path]` obeyed.
fn declarations(name: &str, text: &str) -> Vec<String> {
    let folder = if is_root(name) || name.ends_with("/mod.rs") {
        parent(name).to_owned()
    } else {
        name.strip_suffix(".rs").unwrap_or(name).to_owned()
    };
    let mut found = Vec::new();
    let mut given = None;
    for line in text.lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            given = Some(join(parent(name), path));
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let module = match words[..] {
            ["mod", module] => module.strip_suffix(';'),
            [visibility, "mod", module] if visibility.starts_with("pub") => module.strip_suffix(';'),
            _ => None,
        };
        if let Some(module) = module {
            match given.take() {
                Some(path) => found.push(path),
                None => found.extend([format!("{folder}/{module}.rs"), format!("{folder}/{module}/mod.rs")]),
            }
        } else if !line.starts_with('#') {
            given = None;
        }
    }
    found
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The text with comments and the insides of string literals taken out; lines stay lines.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if c == '"' {
            string_bytes(rest)
        } else if let Some(length) = raw_string_bytes(rest).filter(|_| !code.ends_with(is_name_character)) {
            length
        } else if c == '\'' {
            character_bytes(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

fn string_bytes(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string_bytes(rest: &str) -> Option<usize> {
    let open = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = open.chars().take_while(|c| *c == '#').count();
    let body = open[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let before = rest.len() - body.len();
    Some(body.find(&close).map_or(rest.len(), |end| before + end + close.len()))
}

/// Length of a character literal; 0 for a lifetime, which has no second quote.
fn character_bytes(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => rest[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| 2 + at + 1),
        Some(_) => characters.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// Lines of a document outside fenced blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let outside = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    };
    text.lines().filter(outside).collect()
}

/// Targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let no_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (at, _) in no_code.match_indices("](") {
            if let Some(end) = no_code[at + 2..].find([')', ' ']) {
                found.push(no_code[at + 2..at + 2 + end].to_owned());
            }
        }
    }
    found
}

/// Names that headings get as link targets.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(|c| is_name_character(*c) || *c == '-' || *c == ' ').collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// Paths of this tree that a document names, such as `config/dev.toml`.
fn named_paths(text: &str) -> BTreeSet<String> {
    let is_path_character = |c: char| is_name_character(c) || matches!(c, '/' | '.' | '-' | '*' | '<' | '{');
    let folders = ["config/", "docs/", "charts/", "src/", "tests/", "benches/", "fuzz/", ".ci/"];
    text.split(|c: char| !is_path_character(c) && c != ':')
        .filter(|token| folders.iter().any(|folder| token.starts_with(folder)))
        .filter(|token| !token.contains(['*', '<', '{', ':']) && !token.contains("NNNN"))
        .map(|token| token.trim_end_matches(['.', '/']).to_owned())
        .collect()
}

#[test]
fn an_import_is_seen_in_every_way_of_writing_it() {
    let module = ["protocol".to_owned(), "topic".to_owned()];
    let seen = |code: &str| Vec::from_iter(imports(code, &module));
    assert_eq!(seen("use crate::queue::nats;"), ["queue"]);
    assert_eq!(seen("use crate::{codec::{a, b},\n    queue as q};"), ["codec", "queue"]);
    assert_eq!(seen("fn f() { let x: crate::app::X = crate::cli::y(); }"), ["app", "cli"]);
    assert_eq!(seen("use super::super::transport::T;"), ["transport"]);
    assert_eq!(seen("use super::id; // crate::queue\n/// [`crate::queue`]\nlet s = \"crate::queue\";"), [""; 0]);
    assert_eq!(seen("pub(crate) use other_crate::queue;"), [""; 0]);
}

#[test]
fn code_is_told_from_comments_strings_and_lifetimes() {
    let code = code_only("a /* b\n */ c // d\n\"e \\\" f\" 'g' '\\'' h<'i> r#\"j\"k\"# l r\"m\" n");
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words, ["a", "c", "h<'i>", "l", "n"]);
    assert_eq!(code.lines().count(), 3);
}

#[test]
fn a_declaration_leads_to_its_file() {
    let found = declarations("src/queue/mod.rs", "pub mod nats;\n#[path = \"../x.rs\"]\nmod y;\nmod inline {\n}\n");
    assert_eq!(found, ["src/queue/nats.rs", "src/queue/nats/mod.rs", "src/x.rs"]);
    assert_eq!(declarations("src/a.rs", "pub(crate) mod b;"), ["src/a/b.rs", "src/a/b/mod.rs"]);
}

#[test]
fn links_headings_and_paths_of_a_document_are_found() {
    let text = "# The `a` b, c\n[x](docs/y.md#z) `[no](code)`\n```\n[no](fence)\n```\nSee `config/dev.toml`.";
    assert_eq!(links(text), ["docs/y.md#z"]);
    assert_eq!(Vec::from_iter(anchors(text)), ["the-a-b-c"]);
    assert_eq!(Vec::from_iter(named_paths(text)), ["config/dev.toml", "docs/y.md"]);
    assert_eq!(join("docs/decisions", "../wire.md"), "docs/wire.md");
}
