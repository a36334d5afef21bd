//! Programs that some tests need and not every machine has. A test without its program says so loudly; with `CI_REQUIRE_TOOLS` set it fails.

use std::path::PathBuf;

/// The program's path, or `None` after saying that `test` is skipped.
pub fn find(program: &str, test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|candidate| candidate.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI_REQUIRE_TOOLS").is_none(), "{test} needs {program}, which is not on the PATH");
        // Straight to the terminal: the harness would swallow a plain `eprintln!` of a test that passes.
        let _lost = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED {test}: {program} is not on the PATH\n").as_bytes());
    }
    found
}
