//! Manifests that are generated are what the code says: the definition, and the role of a compute cluster.

use std::path::Path;

fn is_current(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(path);
    if std::env::var_os("ISOBAR_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is not current; run: ISOBAR_UPDATE=1 cargo test --test suite compute_cluster", path.display());
}

#[test]
fn the_committed_definition_is_current() {
    is_current("crds/computecluster.yaml", &isobar::kubernetes::cluster::crd::text().unwrap());
}

#[test]
fn the_committed_role_of_a_compute_cluster_is_current() {
    is_current("remote-cluster/role.yaml", &isobar::kubernetes::cluster::role::text("isobar-runs").unwrap());
}
