//! Rust files as the rules see them. In: the files of the checkout. Out: lines with comments and strings blanked, which of them are test code, and
//! every path that the code names.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One Rust file.
pub struct Source {
    /// Relative to the checkout, with `/`.
    pub path: String,
    /// As it is written.
    pub text: String,
    /// The same with every comment and every string's content as blanks, so that code is all that is left; lines and columns are unchanged.
    pub code: String,
    /// By line: whether it is compiled only for tests.
    pub test_lines: Vec<bool>,
}

/// Something wrong at a place.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// File.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Source {
    /// A file from its text; `all_test` when the whole file is test code.
    pub fn new(path: &str, text: &str, all_test: bool) -> Self {
        let code = blanked(text);
        let test_lines = test_lines(&code, all_test);
        Self { path: path.to_owned(), text: text.to_owned(), code, test_lines }
    }

    /// Code lines that are not for tests, numbered from 1.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().filter(|(at, _)| !self.test_lines[*at]).map(|(at, line)| (at + 1, line))
    }

    /// Something wrong in this file.
    pub fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }

    /// Every path of the product's code with the line it stands on; trees such as `std::{fs, net}` are unfolded. A single word is a path only
    /// after `use`.
    pub fn paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        let bytes = self.code.as_bytes();
        let (mut at, mut line) = (0, 1);
        while at < bytes.len() {
            if !is_word(bytes[at]) {
                line += usize::from(bytes[at] == b'\n');
                at += 1;
                continue;
            }
            let mut found = Vec::new();
            let end = unfold(&self.code, at, String::new(), line, &mut found);
            let used = self.code[..at].trim_end().ends_with("use");
            if !self.test_lines[line - 1] {
                paths.extend(found.into_iter().filter(|(_, path)| used || path.contains("::")));
            }
            line += self.code[at..end].matches('\n').count();
            at = end;
        }
        paths
    }

    /// The room a file belongs to: `scheduler` for `src/scheduler/queue/mod.rs`, `driver` for `src/driver.rs`.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        inside.split('/').next().map(|first| first.trim_end_matches(".rs"))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Reads one path from `at`, its tree included; returns where it ends.
fn unfold(code: &str, mut at: usize, mut path: String, line: usize, paths: &mut Vec<(usize, String)>) -> usize {
    let bytes = code.as_bytes();
    loop {
        let word = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
        path.push_str(&code[at..at + word]);
        at += word;
        if !code[at..].starts_with("::") {
            paths.push((line, path));
            return at;
        }
        at += 2;
        path.push_str("::");
        if bytes.get(at) == Some(&b'{') {
            return unfold_tree(code, at + 1, &path, line, paths).min(code.len());
        }
        if !bytes.get(at).is_some_and(|byte| is_word(*byte)) {
            paths.push((line, path));
            return at;
        }
    }
}

fn unfold_tree(code: &str, mut at: usize, prefix: &str, mut line: usize, paths: &mut Vec<(usize, String)>) -> usize {
    let bytes = code.as_bytes();
    while at < bytes.len() && bytes[at] != b'}' {
        if is_word(bytes[at]) {
            at = unfold(code, at, prefix.to_owned(), line, paths);
        } else {
            line += usize::from(bytes[at] == b'\n');
            at += 1;
        }
    }
    at + 1
}

#[derive(Clone, Copy, PartialEq)]
enum Within {
    Code,
    LineComment,
    BlockComment(u32),
    Text,
    RawText(usize),
}

/// Comments and contents of strings become blanks; line ends stay.
pub fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut within = Within::Code;
    let mut at = 0;
    while at < bytes.len() {
        let (width, shown, next) = step(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]), within);
        for &byte in &bytes[at..at + width] {
            out.push(if shown || byte == b'\n' { byte } else { b' ' });
        }
        within = next;
        at += width;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// One token: how many bytes, whether they are code, and what comes after.
fn step(rest: &[u8], before: Option<u8>, within: Within) -> (usize, bool, Within) {
    match within {
        Within::Code => step_in_code(rest, before),
        Within::LineComment if rest[0] == b'\n' => (1, false, Within::Code),
        Within::BlockComment(depth) if rest.starts_with(b"*/") => {
            (2, false, if depth == 1 { Within::Code } else { Within::BlockComment(depth - 1) })
        }
        Within::BlockComment(depth) if rest.starts_with(b"/*") => (2, false, Within::BlockComment(depth + 1)),
        Within::Text if rest[0] == b'\\' => (2.min(rest.len()), false, Within::Text),
        Within::Text if rest[0] == b'"' => (1, true, Within::Code),
        Within::RawText(hashes) if rest[0] == b'"' && rest[1..].iter().take_while(|byte| **byte == b'#').count() >= hashes => {
            (1 + hashes, true, Within::Code)
        }
        Within::LineComment | Within::BlockComment(_) | Within::Text | Within::RawText(_) => (1, false, within),
    }
}

fn step_in_code(rest: &[u8], before: Option<u8>) -> (usize, bool, Within) {
    if rest.starts_with(b"//") {
        return (2, false, Within::LineComment);
    }
    if rest.starts_with(b"/*") {
        return (2, false, Within::BlockComment(1));
    }
    if rest[0] == b'"' {
        return (1, true, Within::Text);
    }
    if rest[0] == b'r' && before.is_none_or(|byte| !is_word(byte) || byte == b'b') {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            return (2 + hashes, true, Within::RawText(hashes));
        }
    }
    if rest[0] == b'\'' {
        // A lifetime has no closing quote; a character is one byte or an escape that ends soon.
        let width = match rest.get(1) {
            Some(b'\\') => rest[3.min(rest.len())..].iter().position(|byte| *byte == b'\'').map(|end| end + 4),
            Some(_) => rest.iter().skip(2).take(4).position(|byte| *byte == b'\'').map(|end| end + 3),
            None => None,
        };
        if let Some(width) = width.filter(|width| rest[1] == b'\\' || !rest[1..*width - 1].iter().any(u8::is_ascii) || *width == 3) {
            return (width, false, Within::Code);
        }
    }
    (1, true, Within::Code)
}

/// Lines of items under `#[cfg(test)]`.
fn test_lines(code: &str, all: bool) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut marks = vec![all; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        if !is_test_attribute(lines[at]) {
            at += 1;
            continue;
        }
        let end = end_of_item(&lines, at);
        marks[at..=end].fill(true);
        at = end + 1;
    }
    marks
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
}

/// The last line of the item that begins at or after `from`: its closing brace, or its semicolon.
pub fn end_of_item(lines: &[&str], from: usize) -> usize {
    let (mut depth, mut brackets, mut opened) = (0_i64, 0_i64, false);
    for (at, line) in lines.iter().enumerate().skip(from) {
        for byte in line.bytes() {
            match byte {
                b'(' | b'[' => brackets += 1,
                b')' | b']' => brackets -= 1,
                b'{' => (depth, opened) = (depth + 1, true),
                b'}' => depth -= 1,
                b';' if depth == 0 && brackets == 0 => return at,
                _ => {}
            }
            if opened && depth == 0 {
                return at;
            }
        }
    }
    lines.len() - 1
}

/// Every Rust file under these folders of the checkout, by path.
pub fn read(folders: &[&str]) -> Vec<Source> {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| list(&root().join(folder), &mut files));
    files.sort_unstable();
    let texts: Vec<(String, String)> =
        files.iter().map(|file| (relative(file), fs::read_to_string(file).expect("a readable file"))).collect();
    let test_files: Vec<String> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test = |path: &str| {
        !path.starts_with("src/") || test_files.iter().any(|stem| path == format!("{stem}.rs") || path.starts_with(&format!("{stem}/")))
    };
    texts.iter().map(|(path, text)| Source::new(path, text, is_test(path))).collect()
}

/// Modules that a file declares for tests only, as paths without `.rs`.
pub fn test_modules(path: &str, text: &str) -> Vec<String> {
    let code = blanked(text);
    let folder = match path.rsplit_once('/') {
        Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    };
    // With `#[path = "x.rs"]` the file lies beside the one that declares it, under that name.
    let beside = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (written, lines): (Vec<&str>, Vec<&str>) = (text.lines().collect(), code.lines().collect());
    let mut modules = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| is_test_attribute(line)) {
        let end = end_of_item(&lines, at);
        let item = lines[at..=end].join(" ");
        let Some(name) = item.trim_end().strip_suffix(';').and_then(|item| item.rsplit_once("mod ")).map(|(_, name)| name.trim()) else {
            continue;
        };
        let named = written[at..=end].iter().find_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix(".rs\"]"));
        modules.push(named.map_or_else(|| format!("{folder}/{name}"), |named| format!("{beside}/{named}")));
    }
    modules
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn relative(file: &Path) -> String {
    let inside = file.strip_prefix(root()).expect("a file of the checkout");
    inside.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_code_is_not() {
        for (text, code) in [
            ("a // tokio", "a         "),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("a\"b", c)"#, r#"f("    ", c)"#),
            (r##"r#"x"y"# z"##, r##"r#"   "# z"##),
            ("'a', 'b: 'static", "   , 'b: 'static"),
            (r"['\'', '\n', '{']", "[    ,     ,    ]"),
            ("let r = \"x\"; for_r(\"y\")", "let r = \" \"; for_r(\" \")"),
            ("a\n\"b\nc\"", "a\n\" \n \""),
            ("<'a>(&'a self, '\u{e4}')", "<'a>(&'a self,     )"),
        ] {
            assert_eq!(blanked(text), code, "{text}");
        }
    }

    #[test]
    fn trees_of_paths_are_unfolded() {
        let source = Source::new("src/x.rs", "use std::{\n    fs::{self, File},\n    net,\n};\nlet a = b::<C>(crate::d::E);", false);
        let paths = source.paths();
        for want in ["std::fs::self", "std::fs::File", "std::net", "crate::d::E"] {
            assert!(paths.iter().any(|(_, path)| path == want), "{want} is not in {paths:?}");
        }
        assert!(paths.contains(&(3, "std::net".into())), "lines are counted inside a tree");
    }

    #[test]
    fn items_for_tests_are_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}";
        let marks = Source::new("src/x.rs", text, false).test_lines;
        assert_eq!(marks, [false, true, true, true, true, false, true, true, false]);
        assert_eq!(test_modules("src/a/mod.rs", text), ["src/a/more"]);
        assert_eq!(test_modules("src/a.rs", text), ["src/a/more"]);
        assert_eq!(test_modules("src/b/a.rs", "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;"), ["src/b/a_tests"]);
    }
}
