//! Whether the kept vectors notice a rule that is wrong. In: mutants.txt, the checkout. Out: the mutants that no vector tells from the right rule.
//!
//! All mutants are built into one copy of the program, each behind a switch that the environment turns, so that one build serves all.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use crate::{
    cases::FAMILIES,
    compare::differences,
    programs::{isobar, try_answers},
    setting, vectors,
};

const SWITCH: &str = "ISOBAR_MUTANT";
/// Appended to the library: one mutant is on, or none.
const SWITCHBOARD: &str = r#"
#[doc(hidden)]
pub fn mutant(number: u32) -> bool {
    static ON: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var("ISOBAR_MUTANT").ok()?.parse().ok()) == Some(number)
}
"#;

struct Mutant {
    file: String,
    /// The place in the file: what stands before the expression, the expression, what stands behind it.
    place: [String; 3],
    becomes: String,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} becomes {}", self.file, self.place[1], self.becomes)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn listed() -> Vec<Mutant> {
    let (mut mutants, mut file, mut place) = (Vec::new(), "", None);
    for line in include_str!("mutants.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_at(2) {
            ("= ", path) => file = path,
            ("- ", text) => {
                let (before, rest) = text.split_once('«').unwrap_or_else(|| panic!("no « in {text}"));
                let (expression, behind) = rest.split_once('»').unwrap_or_else(|| panic!("no » in {text}"));
                place = Some([before, expression, behind].map(str::to_owned));
            }
            ("+ ", text) => {
                let place = place.take().unwrap_or_else(|| panic!("nothing becomes {text}"));
                mutants.push(Mutant { file: file.to_owned(), place, becomes: text.to_owned() });
            }
            _ => panic!("mutants.txt: {line}"),
        }
    }
    mutants
}

/// Where the expression stands; its place must be the only one that looks so.
fn span(text: &str, mutant: &Mutant) -> (usize, usize) {
    let whole = mutant.place.concat();
    assert_eq!(text.matches(&whole).count(), 1, "{}: this stands there not just once: {whole}", mutant.file);
    let from = text.find(&whole).expect("counted") + mutant.place[0].len();
    (from, from + mutant.place[1].len())
}

/// The file with all its mutants behind switches; several may share an expression.
fn mutated(text: &str, mutants: &[(usize, &Mutant)]) -> String {
    let mut spans: BTreeMap<(usize, usize), Vec<(usize, &Mutant)>> = BTreeMap::new();
    for (number, mutant) in mutants {
        spans.entry(span(text, mutant)).or_default().push((*number, mutant));
    }
    let (mut out, mut done) = (String::new(), 0);
    for ((from, to), here) in spans {
        assert!(done <= from, "two mutants overlap at {}", &text[from..to]);
        let choices = here.iter().map(|(number, mutant)| format!("if crate::mutant({number}) {{ {} }} else ", mutant.becomes));
        let switched = ["(", &choices.collect::<String>(), "{ ", &text[from..to], " })"].concat();
        out += &text[done..from];
        out += &switched;
        done = to;
    }
    out + &text[done..]
}

/// A copy of what Git knows of, with every mutant in it.
fn copy(mutants: &[Mutant], into: &Path) {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "Cargo.*", "src", "config", "manifests", "tests/golden/main.rs"])
        .current_dir(root())
        .output();
    let files = String::from_utf8(listed.expect("git").stdout).expect("text");
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let to = into.join(file);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        let content = std::fs::read(root().join(file)).expect("a file");
        let here: Vec<(usize, &Mutant)> = mutants.iter().enumerate().filter(|(_, mutant)| mutant.file == file).collect();
        let content = match String::from_utf8(content) {
            Ok(text) if file == "src/lib.rs" => format!("#![allow(unused_parens)]\n{text}{SWITCHBOARD}").into_bytes(),
            Ok(text) => mutated(&text, &here).into_bytes(),
            Err(binary) => binary.into_bytes(),
        };
        // What is the same keeps its time, so that a second run builds nothing.
        if std::fs::read(&to).ok().as_ref() != Some(&content) {
            std::fs::write(&to, content).expect("room on the disk");
        }
    }
}

/// The program with all mutants, in the target folder of the checkout, where the dependencies are built already.
fn build(folder: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let manifest = folder.join("Cargo.toml");
    // Tests and benches are not copied; a manifest that names them would be refused.
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    let kept = text.split("\n\n").filter(|part| !part.contains("[[test]]") && !part.contains("[[bench]]")).collect::<Vec<_>>().join("\n\n");
    // Another version: Cargo would take one of the same name and version for the checkout's own, and mix the two.
    let (before, version) = kept.split_once("\nversion = \"").expect("a version");
    let (_, after) = version.split_once('"').expect("a version");
    std::fs::write(&manifest, format!("{before}\nversion = \"0.0.0-mutants\"{after}")).expect("room on the disk");
    let built = Command::new("cargo")
        .args(["build", "--offline", "--bin", "isobar", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo");
    assert!(built.success(), "the mutants do not compile");
    let program = folder.join("isobar-mutants");
    std::fs::copy(target.join("debug/isobar"), &program).expect("what was built");
    program
}

/// The first vector that tells, if any, and the place of its family. A program that dies has been told, too. `first` is the family to begin with.
fn noticed(program: &Path, number: Option<usize>, kept: &[(Vec<String>, Vec<Value>)], first: usize) -> Option<(usize, String)> {
    (0..kept.len()).map(|at| (at + first) % kept.len()).find_map(|family| {
        let (cases, real) = &kept[family];
        let mut command = Command::new(program);
        command.args(isobar().get_args());
        number.map(|number| command.env(SWITCH, number.to_string()));
        let by = match try_answers(command, cases) {
            Err(why) => Some(why),
            Ok(ours) => {
                ours.iter().zip(real).find(|(ours, real)| !differences(ours, real).is_empty()).map(|(ours, _)| ours["id"].to_string())
            }
        };
        by.map(|by| (family, by))
    })
}

/// Those not noticed, of these; one thread a core. Mutants of one file are mostly told by one family, so the next begins with it.
fn survivors<'a>(program: &Path, tried: &[(usize, &'a Mutant)], kept: &[(Vec<String>, Vec<Value>)]) -> Vec<&'a Mutant> {
    let (next, first, survivors) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((number, mutant)) = tried.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some((family, by)) = noticed(program, Some(*number), kept, first.load(Ordering::Relaxed)) {
                first.store(family, Ordering::Relaxed);
                println!("noticed by {by}: {mutant}");
            } else {
                println!("NOT noticed: {mutant}");
                survivors.lock().expect("no panic inside").push(*mutant);
            }
        }
    };
    std::thread::scope(|scope| (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work))));
    survivors.into_inner().expect("no panic inside")
}

/// `ISOBAR_MUTANTS` of them, spread over the list, or those in files whose path contains `ISOBAR_MUTANTS_IN`; all without it. Half a minute for the build,
/// seconds for each.
#[test]
#[ignore = "builds the program once more"]
fn every_mutant_is_noticed() {
    let mutants = listed();
    let wanted = setting("ISOBAR_MUTANTS").map_or(mutants.len(), |count| usize::try_from(count).expect("a small number")).max(1);
    let part = std::env::var("ISOBAR_MUTANTS_IN").unwrap_or_default();
    let step = mutants.len().div_ceil(wanted);
    let tried: Vec<_> = mutants.iter().enumerate().filter(|(_, mutant)| mutant.file.contains(&part)).step_by(step).collect();
    assert!(!tried.is_empty(), "no mutant is in a file whose path contains {part}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    copy(&mutants, &folder);
    let program = build(&folder);
    let kept: Vec<_> = FAMILIES.iter().filter(|family| family.built()).map(|family| vectors::read(family.name)).collect();
    assert_eq!(noticed(&program, None, &kept, 0), None, "with no mutant on, a vector differs");
    let survivors = survivors(&program, &tried, &kept);
    println!("{} of {} mutants tried, {} not noticed", tried.len(), mutants.len(), survivors.len());
    assert!(survivors.is_empty(), "no vector notices:\n{}", survivors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

/// A rule that was rewritten takes its mutants along.
#[test]
fn every_mutant_has_its_place() {
    let mutants = listed();
    assert!(mutants.len() >= 60, "{} mutants only", mutants.len());
    for mutant in &mutants {
        let text = std::fs::read_to_string(root().join(&mutant.file)).unwrap_or_else(|error| panic!("{}: {error}", mutant.file));
        let (from, to) = span(&text, mutant);
        assert_eq!(text[from..to], mutant.place[1]);
    }
}
