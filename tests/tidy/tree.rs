//! What may lie at the top of the checkout. In: the names that are tracked there. Out: those that nobody allowed.

use std::{collections::BTreeSet, process::Command};

use crate::source::root;

/// The whole top level. A newcomer sees it first: everything else has a place below.
const TOP_LEVEL: [&str; 18] = [
    ".ci",
    ".clippy.toml",
    ".dockerignore",
    ".gitattributes",
    ".gitignore",
    ".rustfmt.toml",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "benches",
    "config",
    "deny.toml",
    "docs",
    "manifests",
    "src",
    "testbed",
];

/// Names at the top that are not allowed there.
fn strangers<'a>(names: &BTreeSet<&'a str>) -> Vec<&'a str> {
    names.iter().copied().filter(|name| !TOP_LEVEL.contains(name) && *name != "tests").collect()
}

/// What Git tracks at the top of the checkout, else what lies there without what is never tracked.
fn top_level() -> BTreeSet<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    if let Some(output) = listed.ok().filter(|output| output.status.success() && !output.stdout.is_empty()) {
        let files = String::from_utf8_lossy(&output.stdout).into_owned();
        return files.split('\0').filter_map(|file| file.split('/').next()).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    let entries = std::fs::read_dir(root()).expect("the checkout").filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !["target", ".git", ".cargo-ok", ".cargo_vcs_info.json", "Cargo.toml.orig"].contains(&name.as_str())).collect()
}

#[test]
fn the_top_level_is_small() {
    let names = top_level();
    let strangers = strangers(&names.iter().map(String::as_str).collect());
    assert!(strangers.is_empty(), "these do not belong to the top level (tests/tidy/tree.rs lists what does): {strangers:?}");
}

#[test]
fn a_stranger_at_the_top_is_seen() {
    assert_eq!(strangers(&["src", "tests", "notes.md", "utils"].into_iter().collect()), ["notes.md", "utils"]);
}
