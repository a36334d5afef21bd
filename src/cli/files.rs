//! Files named on a command line. In: paths, - being standard input. Out: what is in them, and the configuration they make.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{self, Configuration, Problems, Source};
use crate::scheduler::registry::Registry;

/// A file that was read.
pub struct File {
    /// As shown in messages.
    pub name: String,
    /// All of it.
    pub content: Vec<u8>,
}

/// Reads files.
pub fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<File>> {
    paths.iter().map(|path| read(path)).collect()
}

/// Reads a file.
pub fn read(path: &Path) -> anyhow::Result<File> {
    if path.as_os_str() == "-" {
        let mut content = Vec::new();
        std::io::stdin().lock().read_to_end(&mut content).context("reading standard input")?;
        return Ok(File { name: "<stdin>".to_owned(), content });
    }
    let content = std::fs::read(path).with_context(|| format!("reading {}: does it exist, and may you read it?", path.display()))?;
    Ok(File { name: path.display().to_string(), content })
}

/// The configuration that files make together.
pub fn load(files: &[File]) -> Result<Configuration, Problems> {
    let sources: Vec<_> = files.iter().map(|file| Source { name: &file.name, content: &file.content }).collect();
    config::load(&sources, &Registry::in_tree())
}
