//! The house rules as a test: layering, size, names, and what must not stay in code. In: every Rust file of the checkout. Out: all findings at once,
//! each with its place and what to do. Each rule has a test that shows it failing. Links nothing of the library, so it runs in a second.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test says what it expects by failing

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/style.rs"]
mod style;
#[path = "tidy/supply.rs"]
mod supply;
#[path = "tidy/tree.rs"]
mod tree;

use source::{Finding, Source};

fn findings(rule: fn(&Source) -> Vec<Finding>) -> String {
    let sources = source::read(&["src", "tests", "benches"]);
    assert!(sources.len() > 50, "the walk found {} files only: it is broken", sources.len());
    let found = sources.iter().flat_map(rule).map(|finding| format!("\n{}:{}: {}", finding.path, finding.line, finding.what));
    found.collect::<Vec<_>>().concat()
}

#[test]
fn rooms_import_inwards_and_pure_rooms_stay_pure() {
    let found = findings(layers::check);
    assert!(found.is_empty(), "{found}");
}

#[test]
fn files_and_functions_look_as_agreed() {
    let found = findings(style::check);
    assert!(found.is_empty(), "{found}");
}
