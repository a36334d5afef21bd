//! `docs/metrics.md` is what the table says.

use std::path::Path;

#[test]
fn metrics_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let wanted = isobar::metrics::reference_page();
    if std::env::var_os("ISOBAR_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/metrics.md is not current; run: ISOBAR_UPDATE=1 cargo test --test suite metrics_page");
}
