//! The two that answer: `isobar explain --batch` and the oracle. In: cases, a line each. Out: their answers in the same order.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The engine, by the stable form of its command line, so that any build of it can be asked.
pub fn isobar() -> Command {
    let program = std::env::var_os("ISOBAR_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_isobar")), PathBuf::from);
    let mut command = Command::new(program);
    command.args(["explain", "--batch", "-"]);
    command
}

/// The real plugins; `None` where nobody has built them. The script alone knows how its key is made, so it is asked.
pub fn oracle() -> Option<Command> {
    if let Some(program) = std::env::var_os("TEST_ASSET_ORACLE") {
        return Some(Command::new(program));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testbed/oracle/build");
    let answer = Command::new(script).arg("--folder").output().ok().filter(|answer| answer.status.success())?;
    let program = PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim()).join("oracle");
    program.is_file().then(|| Command::new(program))
}

/// Asks everything of a fresh process, which must answer everything.
pub fn answers(program: Command, cases: &[String]) -> Vec<Value> {
    try_answers(program, cases).unwrap_or_else(|why| panic!("{why}"))
}

/// Asks everything of a fresh process; what happened if it did not answer everything.
pub fn try_answers(mut program: Command, cases: &[String]) -> Result<Vec<Value>, String> {
    let name = program.get_program().display().to_string();
    let started = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = started.map_err(|error| format!("{name}: {error}"))?;
    let mut input = child.stdin.take().expect("piped");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let answers: Vec<Value> = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that dies early is noticed by its missing answers.
            for case in cases {
                if writeln!(input, "{case}").is_err() {
                    break;
                }
            }
        });
        output.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect()
    });
    let status = child.wait().expect("it ran");
    if status.success() && answers.len() == cases.len() {
        return Ok(answers);
    }
    Err(format!("{name} gave {} of {} answers and ended with {status}", answers.len(), cases.len()))
}
