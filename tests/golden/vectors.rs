//! Kept vectors. In: cases with the real plugins' answers. Out: a compressed file for each family under `tests/golden/vectors`, and back.
//!
//! They are lines of JSON, a case and then its answer: `zcat tests/golden/vectors/taints.jsonl.gz` shows them.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder, read::GzDecoder};
use serde_json::Value;

fn path(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/vectors/{family}.jsonl.gz"))
}

/// Cases as text, as the programs take them, and the answers to them.
pub fn read(family: &str) -> (Vec<String>, Vec<Value>) {
    let path = path(family);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}; tests/golden/README.md says how to make it", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("compressed text");
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks(2);
    pairs.map(|pair| (pair[0].to_owned(), serde_json::from_str::<Value>(pair[1]).expect("an answer"))).unzip()
}

/// Writes a family anew.
pub fn write(family: &str, cases: &[String], answers: &[Value]) {
    std::fs::create_dir_all(path(family).parent().expect("a folder")).expect("a folder");
    let file = File::create(path(family)).expect("a file");
    // No time in it: the same vectors are the same bytes.
    let mut out = GzBuilder::new().write(file, Compression::best());
    for (case, answer) in cases.iter().zip(answers) {
        writeln!(out, "{case}\n{answer}").expect("room on the disk");
    }
    out.finish().expect("room on the disk");
}
