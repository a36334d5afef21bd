//! How files and functions may look. In: one file. Out: a finding for each line that breaks a rule, with what to do instead.
//!
//! Where a rule has exceptions, they are listed beside it with their reasons: an entry is a decision, and a list that grows is a warning.

use crate::source::{Finding, Source, end_of_item};

/// Longer files hide more than one job. Tables are the exception.
const FILE_LINES_MAX: usize = 600;
/// (file, reason)
const LONG_FILES: [(&str, &str); 1] =
    [("tests/suite/api_script.rs", "one script of API calls, read from top to bottom, with what each must answer")];

/// A function that does not fit on a screen does more than one thing.
const FUNCTION_LINES_MAX: usize = 70;
/// (file, function, reason)
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

/// The formatter's width is 140; comments that it cannot break may reach a little further. The content of strings does not count: a message that is
/// broken in two cannot be searched for.
const LINE_CHARS_MAX: usize = 160;

/// (file, calls, reason): how many calls of `unwrap` and `expect` stand in a file outside its tests, because nothing from outside can make them fail.
const UNWRAPS: [(&str, usize, &str); 2] = [
    ("src/metrics/mod.rs", 1, "refused only for an empty list of bounds; every histogram of the constant table has some"),
    ("src/scheduler/view/store.rs", 1, "the only two callers have just put the view there, and the borrow checker takes no other form"),
];

/// Where printing is the job. Everything else reports by `tracing`, by return value, or to a writer that it is given.
const MAY_PRINT: [&str; 3] = ["cli", "demo", "main"];

/// Names that say nothing: such a module takes in whatever has no place.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "misc", "shared", "core"];

/// Work left undone. It belongs into an issue, or is done now.
const UNDONE: [&str; 6] = ["TODO", "FIXME", "XXX", "HACK", "simplified for now", "for now"];

/// Macros that must not stay.
const UNFINISHED_MACROS: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "unreachable!"];

/// Everything wrong with how a file looks.
pub fn check(source: &Source) -> Vec<Finding> {
    let rules = [front_line, file_length, function_length, line_shape, undone, unfinished_macros, unwraps, printing, naming];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

fn is_product(source: &Source) -> bool {
    source.path.starts_with("src/")
}

/// A file opens with what enters and what leaves.
fn front_line(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    let words = first.strip_prefix("//!").map_or(0, |text| text.split_whitespace().count());
    let said = words >= 3;
    if said { Vec::new() } else { vec![source.finding(1, "the file must open with `//!` and say what comes in and what goes out")] }
}

fn file_length(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let listed = LONG_FILES.iter().any(|(file, _)| *file == source.path);
    match (lines > FILE_LINES_MAX, listed) {
        (true, false) => {
            vec![source.finding(lines, format!("{lines} lines; {FILE_LINES_MAX} are the limit: give each job a file of its own"))]
        }
        (false, true) => vec![source.finding(1, NOT_NEEDED)],
        _ => Vec::new(),
    }
}

/// An exception that nothing needs any more would hide the next offender.
const NOT_NEEDED: &str = "listed in tests/tidy/style.rs as longer than the limit, which it no longer is: remove the entry";

fn function_length(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut findings = Vec::new();
    for (number, line) in source.product_lines() {
        let Some(name) = function_name(line) else { continue };
        let length = end_of_item(&lines, number - 1) + 2 - number;
        let listed = LONG_FUNCTIONS.iter().any(|(file, function, _)| *file == source.path && *function == name);
        match (length > FUNCTION_LINES_MAX, listed) {
            (true, false) => {
                let what = format!("`{name}` has {length} lines; {FUNCTION_LINES_MAX} are the limit: name its steps");
                findings.push(source.finding(number, what));
            }
            (false, true) => findings.push(source.finding(number, NOT_NEEDED)),
            _ => {}
        }
    }
    findings
}

/// The name of a function whose declaration begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let words = ["pub", "const", "async", "unsafe", "extern", "default"];
    let mut rest = line.trim_start();
    while let Some(word) =
        words.iter().find(|word| rest.starts_with(**word) && !rest[word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    {
        rest = rest[word.len()..].trim_start();
        if *word == "pub" && rest.starts_with('(') {
            rest = rest.split_once(')')?.1.trim_start();
        }
    }
    let name = rest.strip_prefix("fn ")?;
    Some(&name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())])
}

fn line_shape(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        if line.contains('\t') {
            findings.push(source.finding(at + 1, "a tab: indent with four blanks, write `\\t` in strings"));
        }
        if line.ends_with(' ') {
            findings.push(source.finding(at + 1, "a blank at the end of the line"));
        }
    }
    for (number, chars) in chars_outside_strings(source).into_iter().filter(|(_, chars)| *chars > LINE_CHARS_MAX) {
        findings.push(source.finding(number, format!("{chars} characters; {LINE_CHARS_MAX} are the limit")));
    }
    findings
}

/// Characters of each line, the content of strings left out.
fn chars_outside_strings(source: &Source) -> Vec<(usize, usize)> {
    let mut inside = false;
    let lines = source.text.lines().zip(source.code.lines()).enumerate();
    let count = |(at, (text, code)): (usize, (&str, &str))| {
        let begins_inside = inside;
        let mut content = 0;
        for byte in code.bytes() {
            // Only the marks of strings are left as quotes in blanked code.
            inside ^= byte == b'"';
            content += usize::from(inside && byte != b'"');
        }
        // Blanked code has one blank a byte; a line that is nothing but content counts as empty.
        let whole = begins_inside && inside && !code.contains('"');
        (at + 1, if whole { 0 } else { text.chars().count().saturating_sub(content) })
    };
    lines.map(count).collect()
}

fn undone(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().zip(source.code.lines()).enumerate();
    let mut findings = Vec::new();
    for (at, (line, code)) in lines {
        // Only in comments: elsewhere such a word may be a name, or data.
        let comment =
            line.find("//").filter(|start| code.get(*start..).is_none_or(|rest| rest.trim().is_empty())).map(|start| &line[start..]);
        if let Some(word) = comment.and_then(|comment| UNDONE.iter().find(|word| contains_word(comment, word))) {
            findings.push(source.finding(at + 1, format!("`{word}`: do it, or open an issue and say in the comment what holds instead")));
        }
    }
    findings
}

fn contains_word(text: &str, word: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    text.match_indices(word).any(|(at, _)| edge(text[..at].chars().next_back()) && edge(text[at + word.len()..].chars().next()))
}

fn unfinished_macros(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in source.product_lines() {
        if let Some(name) = UNFINISHED_MACROS.iter().find(|name| contains_word(text, name)) {
            findings.push(
                source.finding(
                    line,
                    format!("`{name}`: say what happens instead; an impossible state is a `debug_assert!` and a safe refusal"),
                ),
            );
        }
    }
    findings
}

fn unwraps(source: &Source) -> Vec<Finding> {
    if !is_product(source) {
        return Vec::new();
    }
    let calls = |line: &str| line.matches(".unwrap()").count() + line.matches(".expect(").count();
    let found: Vec<usize> = source.product_lines().flat_map(|(number, line)| vec![number; calls(line)]).collect();
    let (allowed, listed) = UNWRAPS.iter().find(|(file, ..)| *file == source.path).map_or((0, false), |(_, calls, _)| (*calls, true));
    let mut findings: Vec<Finding> = Vec::new();
    if found.len() > allowed {
        let what = "`unwrap` or `expect` outside tests: return an error; if nothing from outside can make it fail, list the file in tests/tidy/style.rs";
        findings.extend(found.iter().skip(allowed).map(|line| source.finding(*line, what)));
    }
    if listed && found.len() < allowed {
        let what = format!("tests/tidy/style.rs allows {allowed} calls of `unwrap` or `expect` here, there are {}: lower it", found.len());
        findings.push(source.finding(1, what));
    }
    findings
}

fn printing(source: &Source) -> Vec<Finding> {
    if !is_product(source) || source.room().is_some_and(|room| MAY_PRINT.contains(&room)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (line, text) in source.product_lines() {
        if let Some(name) = ["println!", "print!", "eprintln!", "eprint!"].iter().find(|name| contains_word(text, name)) {
            findings.push(
                source.finding(line, format!("`{name}` outside {}: use tracing, or write to what the caller gives", MAY_PRINT.join(", "))),
            );
        }
    }
    findings
}

fn naming(source: &Source) -> Vec<Finding> {
    let parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    let file = parts.clone().find(|part| EMPTY_NAMES.contains(part));
    let inline = source.code.lines().enumerate().find_map(|(at, line)| {
        let name = line.trim_start().trim_start_matches("pub ").strip_prefix("mod ")?.trim_end_matches([' ', ';', '{']);
        EMPTY_NAMES.contains(&name).then(|| (at + 1, name.to_owned()))
    });
    let found = file.map(|name| (1, name.to_owned())).or(inline);
    let what = |name: &str| format!("`{name}` names nothing: name the module by its role in the flow");
    found.into_iter().map(|(line, name)| source.finding(line, what(&name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text, !path.starts_with("src/"))).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_file_says_what_it_does_first() {
        for (text, fails) in
            [("//! Queue: pods in.", false), ("//!", true), ("//! Queue", true), ("use x;\n//! Late, as it is.", true), ("", true)]
        {
            assert_eq!(!lines(front_line, "src/x.rs", text).is_empty(), fails, "{text:?}");
        }
    }

    #[test]
    fn files_end_at_their_limit() {
        assert!(lines(file_length, "src/x.rs", &"\n".repeat(FILE_LINES_MAX)).is_empty());
        assert!(!lines(file_length, "src/x.rs", &"\n".repeat(FILE_LINES_MAX + 1)).is_empty());
        assert!(lines(file_length, LONG_FILES[0].0, &"\n".repeat(FILE_LINES_MAX + 1)).is_empty());
        assert!(!lines(file_length, LONG_FILES[0].0, "short").is_empty(), "an idle exception is found");
    }

    #[test]
    fn functions_end_at_their_limit() {
        let function = |head: &str, lines: usize| format!("//! x\n{head} {{\n{}}}\n", "    x();\n".repeat(lines - 2));
        for head in ["fn f()", "pub(super) async fn f<T: A>(x: [u8; 4]) -> impl B", "pub const fn f()", "    fn f(\n    a: B,\n)"] {
            let extra = head.matches('\n').count();
            assert!(lines(function_length, "src/x.rs", &function(head, FUNCTION_LINES_MAX - extra)).is_empty(), "{head}");
            assert_eq!(lines(function_length, "src/x.rs", &function(head, FUNCTION_LINES_MAX - extra + 1)), [2], "{head}");
        }
        assert!(lines(function_length, "tests/x.rs", &function("fn f()", 200)).is_empty(), "tests may be long");
        assert!(
            lines(function_length, "src/x.rs", &format!("fn f();\n{}", "x;\n".repeat(200))).is_empty(),
            "a signature ends at its semicolon"
        );
        for (file, name, _) in LONG_FUNCTIONS {
            assert!(
                lines(function_length, file, &function(&format!("fn {name}()"), FUNCTION_LINES_MAX + 1)).is_empty(),
                "an exception holds"
            );
            assert!(!lines(function_length, file, &function(&format!("fn {name}()"), 9)).is_empty(), "an idle exception is found");
        }
        let braces = format!("fn f() {{\n    '{{';\n    \"{{\";\n}}\n{}", "x;\n".repeat(200));
        assert!(lines(function_length, "src/x.rs", &braces).is_empty(), "braces in text are not braces");
    }

    #[test]
    fn lines_have_no_tabs_no_trailing_blanks_and_an_end() {
        for (text, fails) in [
            ("a", false),
            ("\ta", true),
            ("a ", true),
            (&"x".repeat(LINE_CHARS_MAX), false),
            (&"x".repeat(LINE_CHARS_MAX + 1), true),
            (&format!("a(\"{}\")", "x".repeat(300)), false),
            (&format!("a(\"\n{}\n\")", "x".repeat(300)), false),
            (&format!("a(\"\") // {}", "x".repeat(160)), true),
        ] {
            assert_eq!(!lines(line_shape, "src/x.rs", text).is_empty(), fails, "{text:?}");
        }
    }

    #[test]
    fn nothing_is_left_undone() {
        for word in UNDONE {
            assert_eq!(lines(undone, "tests/x.rs", &format!("a();\nb(); // {word}: later")), [2]);
        }
        assert!(lines(undone, "src/x.rs", "let a = \"// TODO\"; // METODOLOGY").is_empty());
        for name in UNFINISHED_MACROS {
            assert_eq!(lines(unfinished_macros, "src/x.rs", &format!("fn f() {{\n    {name}()\n}}")), [2]);
        }
        assert!(lines(unfinished_macros, "src/x.rs", "// todo!()\n#[cfg(test)]\nmod tests {\n    fn f() { todo!() }\n}").is_empty());
    }

    #[test]
    fn nothing_panics_outside_tests() {
        assert_eq!(lines(unwraps, "src/x.rs", "a.unwrap();\nb.expect(\"c\").d.unwrap();"), [1, 2, 2]);
        assert!(lines(unwraps, "src/x.rs", "a.unwrap_or(b); // .unwrap()\n#[cfg(test)]\nfn f() { a.unwrap() }").is_empty());
        assert!(lines(unwraps, "tests/x.rs", "a.unwrap();").is_empty());
        for (file, calls, _) in UNWRAPS {
            assert_eq!(lines(unwraps, file, &"a.unwrap();\n".repeat(calls)), [0; 0], "{file}");
            assert_eq!(lines(unwraps, file, &"a.unwrap();\n".repeat(calls + 1)), [calls + 1], "{file}");
            assert_eq!(lines(unwraps, file, ""), [1], "an entry must not allow more than there is");
        }
    }

    #[test]
    fn only_programs_print() {
        for (path, text, fails) in [
            ("src/model/x.rs", "println!(\"a\")", true),
            ("src/kubernetes/x.rs", "eprintln!(\"a\")", true),
            ("src/cli/x.rs", "println!(\"a\")", false),
            ("src/model/x.rs", "writeln!(out, \"println!\")", false),
            ("tests/x.rs", "println!(\"a\")", false),
        ] {
            assert_eq!(!lines(printing, path, text).is_empty(), fails, "{path}: {text}");
        }
    }

    #[test]
    fn names_say_something() {
        for (path, text, fails) in [
            ("src/utils.rs", "", true),
            ("src/model/helpers/x.rs", "", true),
            ("src/model/x.rs", "pub mod common;", true),
            ("src/model/x.rs", "mod misc {\n}", true),
            ("src/model/commons.rs", "mod utilities;", false),
        ] {
            assert_eq!(!lines(naming, path, text).is_empty(), fails, "{path}: {text}");
        }
    }
}
