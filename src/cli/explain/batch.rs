//! Many questions in one go: one JSON object a line in, one answer a line out, in order. A line that cannot be answered says why and the rest goes on.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{case, objects};
use crate::config::{self, Source};
use crate::scheduler::{explain::Explanation, profile::ProfileSpec, registry::Registry};

/// Configurations kept. Files of cases use a handful; beyond this they are all different, and keeping them would only cost memory.
const CONFIGS_KEPT_MAX: usize = 256;

#[derive(Deserialize)]
struct Case {
    id: Value,
    config: Option<Value>,
    objects: Value,
    pod: String,
}

/// What stands on a line that cannot be answered.
#[derive(Serialize)]
struct Failure<'a> {
    id: &'a Value,
    error: String,
}

#[derive(Serialize)]
struct Success<'a> {
    id: &'a Value,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

/// Answers cases.
pub struct Batch {
    /// For cases without a configuration of their own.
    default: Vec<ProfileSpec>,
    seed: u64,
    kept: BTreeMap<String, Result<Vec<ProfileSpec>, String>>,
}

impl Batch {
    /// Cases that bring no configuration are answered by `default`.
    pub fn new(default: Vec<ProfileSpec>, seed: u64) -> Self {
        Self { default, seed, kept: BTreeMap::new() }
    }

    /// Answers every line; the number of those that could not be answered.
    pub fn run(&mut self, mut lines: impl BufRead, out: &mut impl Write) -> std::io::Result<usize> {
        let (mut failures, mut line) = (0, Vec::new());
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                return Ok(failures);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let (answer, good) = self.answer(&line);
            failures += usize::from(!good);
            writeln!(out, "{answer}")?;
        }
    }

    /// The answer to one line, and whether it is one.
    pub fn answer(&mut self, line: &[u8]) -> (String, bool) {
        let failed = |id: &Value, error: String| (serde_json::to_string(&Failure { id, error }).unwrap_or_default(), false);
        let value: Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            Err(error) => return failed(&Value::Null, format!("not valid JSON: {error}")),
        };
        let id = value.get("id").cloned().unwrap_or_default();
        let case: Case = match serde_json::from_value(value) {
            Ok(case) => case,
            Err(error) => return failed(&id, format!("not of the form {{\"id\", \"config\"?, \"objects\", \"pod\"}}: {error}")),
        };
        match self.explain(&case) {
            Ok(explanation) => {
                let written = serde_json::to_string(&Success { id: &case.id, explanation: &explanation });
                written.map_or_else(|error| failed(&case.id, error.to_string()), |text| (text, true))
            }
            Err(error) => failed(&case.id, error),
        }
    }

    fn explain(&mut self, case: &Case) -> Result<Explanation, String> {
        let objects = objects::from_value("objects", &case.objects).map_err(|error| error.to_string())?;
        let pod = case::pod_key(&case.pod).map_err(|error| error.to_string())?;
        let id = match &case.id {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let seed = self.seed;
        let profiles = self.profiles(case.config.as_ref())?;
        case::World::new(profiles, objects, &pod).map(|mut world| world.explain(seed, &id)).map_err(|error| error.to_string())
    }

    fn profiles(&mut self, config: Option<&Value>) -> Result<&[ProfileSpec], String> {
        let text = match config {
            None | Some(Value::Null) => return Ok(&self.default),
            Some(Value::String(yaml)) => yaml.clone(),
            Some(object) => object.to_string(),
        };
        if self.kept.len() >= CONFIGS_KEPT_MAX && !self.kept.contains_key(&text) {
            self.kept.clear();
        }
        let built = self.kept.entry(text).or_insert_with_key(|text| build(text));
        built.as_deref().map_err(Clone::clone)
    }
}

fn build(text: &str) -> Result<Vec<ProfileSpec>, String> {
    let source = Source { name: "config", content: text.as_bytes() };
    config::load(&[source], &Registry::in_tree()).map(|configuration| configuration.profiles).map_err(|problems| problems.to_string())
}
