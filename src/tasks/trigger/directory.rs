//! Directories that are polled. In: listings, one after another. Out: the files that are complete, as arrivals, each once for what it contains.
//!
//! A file is complete when its size and time have not changed for a while, or, where the sender marks it, when a file of its name and `.done` is there. What
//! is there at the first look counts as well: that is how work begins with what has come already.

use std::collections::BTreeMap;

use regex::Regex;

use super::arrival::Arrival;
use crate::model::time::{DurationMs, Timestamp};

/// Suffix of a marker.
const MARKER: &str = ".done";
/// Files that are followed at once.
const FILES_MAX: usize = 100_000;

/// How a directory is read.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The data source.
    pub source: String,
    glob: Regex,
    /// Unchanged for so long.
    pub settle: DurationMs,
    /// A marker says when a file is complete.
    pub marked: bool,
}

/// A file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path below the directory, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its last change.
    pub modified: Timestamp,
}

/// What is remembered between two looks; it may be lost.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    files: BTreeMap<String, Sight>,
}

#[derive(Clone, Debug)]
struct Sight {
    bytes: u64,
    modified: Timestamp,
    since: Timestamp,
    told: bool,
}

impl Watched {
    /// How a directory is read; in `glob` a `*` is any text without `/`, `**` any text, `?` one character.
    pub fn new(source: &str, glob: &str, settle: DurationMs, marked: bool) -> Result<Self, String> {
        let mut expression = String::new();
        let mut rest = glob;
        while let Some(first) = rest.chars().next() {
            let (part, length) = match first {
                '*' if rest.starts_with("**") => (".*".to_owned(), 2),
                '*' => ("[^/]*".to_owned(), 1),
                '?' => ("[^/]".to_owned(), 1),
                other => (regex::escape(other.encode_utf8(&mut [0; 4])), other.len_utf8()),
            };
            expression += &part;
            rest = &rest[length..];
        }
        let all = if glob.is_empty() { "[^/]*" } else { &expression };
        Ok(Self { source: source.to_owned(), glob: super::pattern::whole(all)?, settle, marked })
    }

    /// One look. Arrivals are in the order of their times, so that the oldest are started first.
    pub fn look(&self, seen: &mut Seen, listing: &[File], now: Timestamp) -> Vec<Arrival> {
        let markers: std::collections::BTreeSet<&str> = listing.iter().filter_map(|file| file.path.strip_suffix(MARKER)).collect();
        let wanted = |file: &&File| self.glob.is_match(&file.path) && !(self.marked && file.path.ends_with(MARKER));
        let mut files = BTreeMap::new();
        let mut complete: Vec<&File> = Vec::new();
        for file in listing.iter().filter(wanted).take(FILES_MAX) {
            let before = seen.files.get(&file.path).filter(|before| (before.bytes, before.modified) == (file.bytes, file.modified));
            let fresh = Sight { bytes: file.bytes, modified: file.modified, since: now, told: false };
            let mut sight = before.cloned().unwrap_or(fresh);
            let is_complete = if self.marked { markers.contains(file.path.as_str()) } else { now.since(sight.since) >= self.settle };
            if is_complete && !sight.told {
                sight.told = true;
                complete.push(file);
            }
            files.insert(file.path.clone(), sight);
        }
        seen.files = files;
        complete.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        complete.into_iter().map(|file| self.arrival(file)).collect()
    }

    /// An arrival that was not acknowledged is told again at the next look.
    pub fn forget(seen: &mut Seen, path: &str) {
        if let Some(sight) = seen.files.get_mut(path) {
            sight.told = false;
        }
    }

    fn arrival(&self, file: &File) -> Arrival {
        let id = format!("{}#{}-{}", file.path, file.bytes, file.modified.0);
        Arrival { source: self.source.clone(), id, name: file.path.clone(), time: Some(file.modified) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64, modified: u64) -> File {
        File { path: path.into(), bytes, modified: Timestamp(modified) }
    }

    fn names(arrivals: &[Arrival]) -> Vec<&str> {
        arrivals.iter().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn a_file_counts_once_it_is_stable_and_again_when_it_changes() {
        let watched = Watched::new("s", "*.bz2", DurationMs(10_000), false).unwrap();
        let mut seen = Seen::default();
        let mut look = |at: u64, listing: &[File]| watched.look(&mut seen, listing, Timestamp(at));
        assert!(look(0, &[file("a.bz2", 1, 5), file("b.txt", 1, 5)]).is_empty());
        assert!(look(9_000, &[file("a.bz2", 2, 6)]).is_empty(), "it grows");
        assert!(look(18_000, &[file("a.bz2", 2, 6)]).is_empty());
        let first = look(19_000, &[file("a.bz2", 2, 6)]);
        assert_eq!(names(&first), ["a.bz2"]);
        assert!(look(40_000, &[file("a.bz2", 2, 6)]).is_empty(), "once");
        assert!(look(41_000, &[file("a.bz2", 3, 7)]).is_empty());
        let again = look(51_000, &[file("a.bz2", 3, 7)]);
        assert_ne!(first[0].id, again[0].id, "other content is another event");
        Watched::forget(&mut seen, "a.bz2");
        assert_eq!(watched.look(&mut seen, &[file("a.bz2", 3, 7)], Timestamp(52_000)), again, "the same event");
    }

    #[test]
    fn a_marker_says_when_a_file_is_complete() {
        let watched = Watched::new("s", "**", DurationMs(10_000), true).unwrap();
        let mut seen = Seen::default();
        assert!(watched.look(&mut seen, &[file("d/a", 1, 9), file("b", 1, 5)], Timestamp(0)).is_empty());
        let listing = [file("d/a", 1, 9), file("d/a.done", 0, 9), file("b", 1, 5), file("b.done", 0, 6)];
        assert_eq!(names(&watched.look(&mut seen, &listing, Timestamp(1))), ["b", "d/a"], "at once, oldest first, markers are none");
    }

    #[test]
    fn globs_are_not_expressions() {
        for (glob, path, wanted) in [
            ("*.bz2", "a.bz2", true),
            ("*.bz2", "d/a.bz2", false),
            ("**.bz2", "d/a.bz2", true),
            ("?(a)+", "x(a)+", true),
            ("?(a)+", "xa", false),
            ("", "x", true),
            ("é*", "éx", true),
        ] {
            assert_eq!(Watched::new("s", glob, DurationMs(0), false).unwrap().glob.is_match(path), wanted, "{glob} {path}");
        }
    }
}
