//! README and docs: every `console` block is run and must print what it shows; every link to a file of the checkout must lead somewhere.

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
