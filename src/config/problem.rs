//! What is wrong with a configuration, for people. In: a place and a message. Out: text like a compiler's, with the line and a caret under it.

use std::fmt;

/// Longest part of a line that is shown, in characters: a terminal's width. The caret stays in view.
const SNIPPET_CHARS_MAX: usize = 120;

/// Most problems that are listed: nobody reads more, and a hostile file could make millions.
pub const PROBLEMS_MAX: usize = 200;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the file as it was given.
    pub file: String,
    /// Counted from 1; 0 when the problem is the whole file.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// How many characters the caret underlines, at least 1.
    pub width: u32,
    /// Dotted path in the document (`profiles[0].schedulerName`); empty for the document itself.
    pub path: String,
    /// What is wrong, in kube-scheduler's words where it has some.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line itself.
    pub snippet: String,
    /// Applied all the same, but probably not meant.
    pub warning: bool,
}

impl fmt::Display for Problem {
    /// Four or five lines: message, place, the line of the file, a caret, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        writeln!(f, "{}: {path}{}", if self.warning { "warning" } else { "error" }, self.message)?;
        if self.line == 0 {
            writeln!(f, "  --> {}", self.file)?;
        } else {
            self.fmt_snippet(f)?;
        }
        match &self.help {
            Some(help) => writeln!(f, "  = help: {help}"),
            None => Ok(()),
        }
    }
}

impl Problem {
    /// `file:line:column: path: message`, for logs and events.
    pub fn one_line(&self) -> String {
        let path = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        format!("{}:{}:{}: {path}{}", self.file, self.line, self.column, self.message)
    }

    fn fmt_snippet(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let column = (self.column.max(1) - 1) as usize;
        let start = if column < SNIPPET_CHARS_MAX { 0 } else { column - SNIPPET_CHARS_MAX / 2 };
        let shown: String = self.snippet.chars().skip(start).take(SNIPPET_CHARS_MAX).map(printable).collect();
        let room = shown.chars().count().saturating_sub(column - start).max(1);
        let carets = "^".repeat((self.width as usize).clamp(1, room));
        writeln!(f, "{gutter}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", shown.trim_end())?;
        writeln!(f, "{gutter} | {}{carets}", " ".repeat(column - start))
    }
}

/// Keeps a terminal safe from control characters, and every character one column wide.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Everything that is wrong, in the order of files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.0.iter().take(PROBLEMS_MAX) {
            writeln!(f, "{problem}")?;
        }
        if self.0.len() > PROBLEMS_MAX {
            writeln!(f, "... and {} more", self.0.len() - PROBLEMS_MAX)?;
        }
        let count = self.0.len();
        write!(f, "{count} {}, nothing applied", if count == 1 { "problem" } else { "problems" })
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(column: u32, width: u32, snippet: &str) -> String {
        let problem = Problem {
            file: "f.yaml".to_owned(),
            line: 12,
            column,
            width,
            path: "a.b".to_owned(),
            message: "wrong".to_owned(),
            help: Some("do it right".to_owned()),
            snippet: snippet.to_owned(),
            warning: false,
        };
        problem.to_string()
    }

    #[test]
    fn points_at_the_value() {
        let expected = "error: a.b: wrong\n  --> f.yaml:12:4\n   |\n12 | b: 300\n   |    ^^^\n  = help: do it right\n";
        assert_eq!(at(4, 3, "b: 300"), expected);
    }

    #[test]
    fn long_lines_are_cut_around_the_caret_and_control_characters_are_masked() {
        let long = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let text = at(5001, 1, &long);
        assert!(text.lines().all(|line| line.chars().count() < 140), "{text}");
        let (line, caret) = (text.lines().nth(3).unwrap_or(""), text.lines().nth(4).unwrap_or(""));
        assert_eq!(line.find('X'), caret.find('^'));
        assert!(at(1, 1, "\u{1b}[31mred\tx").contains("\u{fffd}[31mred x"));
        assert!(at(99, 5, "short").contains('^'), "a column past the end still renders");
    }
}
