//! `manifests/crds/computecluster.yaml` is what the structs say.

use std::path::Path;

#[test]
fn the_committed_definition_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crds/computecluster.yaml");
    let wanted = isobar::kubernetes::cluster::crd::text().unwrap();
    if std::env::var_os("ISOBAR_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is not current; run: ISOBAR_UPDATE=1 cargo test --test suite compute_cluster", path.display());
}
