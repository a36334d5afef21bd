//! README and docs: every `console` block is run and must print what it shows; every link to a file of the checkout must lead somewhere; every metric and
//! alert that is named must be there.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages that people read.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("readable").path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    pages.extend(["README.md", "manifests/README.md", "testbed/README.md"].map(|page| root().join(page)));
    pages.sort();
    pages
}

#[test]
fn commands_print_what_the_pages_show() {
    let cases = trycmd::TestCases::new();
    cases.register_bin("isobar", PathBuf::from(env!("CARGO_BIN_EXE_isobar")));
    cases.case("README.md").case("docs/*.md");
}

/// Targets of `](...)` that are not addresses, without the part after `#`.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://")).map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|target| !target.is_empty()).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let folder = page.parent().expect("a folder");
        broken
            .extend(links(&text).into_iter().filter(|link| !folder.join(link).exists()).map(|link| format!("{}: {link}", page.display())));
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(links("a [b](c.md#d) ![e](f/g.svg) [h](https://i) [j](#k)"), ["c.md", "f/g.svg"]);
}

/// Words of a text that begin so.
fn words<'a>(text: &'a str, beginning: &'a str) -> impl Iterator<Item = &'a str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(move |c| !is_word(c)).filter(move |word| word.starts_with(beginning))
}

#[test]
fn metrics_and_alerts_that_are_named_are_there() {
    let read = |path: PathBuf| std::fs::read_to_string(path).expect("a text");
    let metrics = read(root().join("docs/metrics.md"));
    let alerts = read(root().join("manifests/overlays/monitoring/alerts.yaml"));
    // A name that ends so stands for all that begin so.
    let is_known = |name: &&str| name.ends_with('_') || metrics.contains(&format!("`{name}`"));
    let mut unknown = Vec::new();
    for page in pages() {
        let text = read(page.clone());
        let names = words(&text, "isobar_").filter(|name| !is_known(name));
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `Isobar")?.split_once('`'));
        let called = rows.filter(|(name, _)| !alerts.contains(&format!("- alert: Isobar{name}\n"))).map(|(name, _)| name);
        unknown.extend(names.chain(called).map(|name| format!("{}: {name}", page.display())));
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert_eq!(words("`isobar_a_b{c}` x_isobar_d", "isobar_").collect::<Vec<_>>(), ["isobar_a_b"]);
}
