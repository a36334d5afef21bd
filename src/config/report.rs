//! What is wrong in meaning. In: a path and a value. Out: findings in the words of Kubernetes' field errors (`Invalid value: 101: not in valid range [0-100]`).

use std::fmt;

use super::path::Path;
use super::shape::{did_you_mean, shortened};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is applied.
    Error,
    /// It is applied, but probably does not do what was meant.
    Warning,
}

/// Something wrong at a path of the whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: Path,
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A list of findings that grows.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order found.
    pub findings: Vec<Finding>,
    /// Paths where the shape was wrong already: what stands there is a stand-in, and no more is said of it.
    pub broken: Vec<Path>,
}

/// A finding's last word: what to do.
pub struct Added<'a>(Option<&'a mut Finding>);

impl Added<'_> {
    /// Says what to do about it.
    pub fn help(self, help: impl Into<String>) {
        if let Some(finding) = self.0 {
            finding.help = Some(help.into());
        }
    }
}

impl Report {
    fn add(&mut self, path: &Path, severity: Severity, message: String) -> Added<'_> {
        if self.broken.iter().any(|broken| path.is_within(broken)) {
            return Added(None);
        }
        self.findings.push(Finding { path: path.clone(), severity, message, help: None });
        Added(self.findings.last_mut())
    }

    /// Whether something at or under `path` was found wrong, in shape or in meaning.
    pub fn is_wrong(&self, path: &Path) -> bool {
        let errors = self.findings.iter().filter(|finding| finding.severity == Severity::Error);
        self.broken.iter().chain(errors.map(|finding| &finding.path)).any(|wrong| wrong.is_within(path))
    }

    /// In words of its own.
    pub fn error(&mut self, path: &Path, message: impl Into<String>) -> Added<'_> {
        self.add(path, Severity::Error, message.into())
    }

    /// Applied all the same.
    pub fn warning(&mut self, path: &Path, message: impl Into<String>) -> Added<'_> {
        self.add(path, Severity::Warning, message.into())
    }

    /// A number that is out of range.
    pub fn invalid(&mut self, path: &Path, value: impl fmt::Display, detail: &str) -> Added<'_> {
        self.error(path, format!("Invalid value: {value}: {detail}"))
    }

    /// A text that is not allowed.
    pub fn invalid_text(&mut self, path: &Path, value: &str, detail: &str) -> Added<'_> {
        self.error(path, format!("Invalid value: {}: {detail}", shortened(value)))
    }

    /// Something must be said here.
    pub fn required(&mut self, path: &Path, detail: &str) -> Added<'_> {
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        self.error(path, format!("Required value{detail}"))
    }

    /// Nothing may be said here.
    pub fn forbidden(&mut self, path: &Path, detail: &str) -> Added<'_> {
        self.error(path, format!("Forbidden: {detail}"))
    }

    /// Said before.
    pub fn duplicate(&mut self, path: &Path, value: &str) -> Added<'_> {
        self.error(path, format!("Duplicate value: {}", shortened(value)))
    }

    /// Not one of a few.
    pub fn unsupported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        let quoted: Vec<_> = supported.iter().map(|one| format!("{one:?}")).collect();
        let added = self.error(path, format!("Unsupported value: {}: supported values: {}", shortened(value), quoted.join(", ")));
        match did_you_mean(value, supported.iter().copied()) {
            Some(meant) => added.help(format!("did you mean {meant:?}?")),
            None => added.help("write one of them"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_what_is_broken_in_shape() {
        let weight = Path::root().field("weight");
        let mut report = Report { broken: vec![weight.clone()], ..Report::default() };
        report.required(&weight, "");
        report.invalid(&weight.field("inside"), 0, "wrong").help("never");
        assert_eq!(report.findings, []);
        report.unsupported(&Path::root().field("kind"), "x", &["a", "b"]);
        assert_eq!(report.findings[0].message, "Unsupported value: \"x\": supported values: \"a\", \"b\"");
        assert!(report.is_wrong(&Path::root()));
        assert!(!report.is_wrong(&Path::root().field("other")));
    }
}
