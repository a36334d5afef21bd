//! What the cases reached. In: answers of the real plugins. Out: how often each plugin refused for each reason, accepted, scored and skipped; agreement
//! about what never happened proves nothing.

use std::collections::BTreeMap;

use serde_json::Value;

/// What preemption can say.
const PREEMPTION_SAYS: [&str; 8] = [
    "found a potential placement",
    "preemptionPolicy=Never",
    "terminating pod on the nominated node",
    "No preemption victims found",
    "Preemption is not helpful",
    "Insufficient cpu",
    "didn't match pod topology spread constraints",
    "anti-affinity rules",
];

/// Counts of one family or of all.
#[derive(Default)]
pub struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    fn count(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Counts an answer.
    pub fn add(&mut self, real: &Value) {
        self.count("cases".to_owned());
        for (field, what) in [("gated", "gated"), ("error", "error")] {
            if let Some(by) = real[field].as_str() {
                // What comes after a colon names objects.
                self.count(format!("{what}: {}", by.split(": ").next().unwrap_or_default()));
            }
        }
        if let Some(refused) = real.get("prefilter") {
            self.refusal("everywhere ", refused);
        }
        let some_feasible = real["feasible"].as_array().is_some_and(|nodes| !nodes.is_empty());
        for refused in real["infeasible"].as_object().into_iter().flat_map(serde_json::Map::values) {
            self.refusal("", refused);
            if some_feasible {
                self.count(format!("{} accepts and refuses", refused["plugin"].as_str().unwrap_or_default()));
            }
        }
        for skipped in real["prescore_skipped"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.count(format!("{skipped} skips scoring"));
        }
        for (plugin, scores) in real["scores"].as_object().into_iter().flatten() {
            let mut scores = scores.as_array().into_iter().flatten();
            if scores.any(|score| score[0] != 0) {
                self.count(format!("{plugin} scores"));
            }
        }
        self.preemption(real);
    }

    fn preemption(&mut self, real: &Value) {
        let preemption = &real["preemption"];
        let said = preemption["message"].as_str().unwrap_or_default();
        for phrase in PREEMPTION_SAYS.iter().filter(|phrase| said.contains(**phrase)) {
            self.count(format!("preemption says: {phrase}"));
        }
        if preemption["nominated"].as_str().is_some_and(|node| !node.is_empty()) {
            self.count("preemption nominates".to_owned());
            if preemption["equally_good"].is_array() {
                self.count("preemption leaves a choice".to_owned());
            }
            let victims = preemption["victims"].as_array().map_or(0, Vec::len).min(3);
            self.count(format!("preemption has {victims}{} victims", if victims == 3 { " or more" } else { "" }));
        }
    }

    fn refusal(&mut self, how: &str, refused: &Value) {
        let plugin = refused["plugin"].as_str().unwrap_or_default();
        for reason in refused["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.count(format!("{plugin} refuses {how}({}): {reason}", refused["code"].as_str().unwrap_or_default()));
        }
    }

    /// What should have been reached and was not. An entry is the beginning of a line of [`Self::lines`].
    pub fn missing<'a>(&self, reach: &[&'a str]) -> Vec<&'a str> {
        let reached = |wanted: &str| self.0.range(wanted.to_owned()..).next().is_some_and(|(what, _)| what.starts_with(wanted));
        reach.iter().copied().filter(|wanted| !reached(wanted)).collect()
    }

    /// A line a count.
    pub fn lines(&self) -> String {
        self.0.iter().fold(String::new(), |text, (what, count)| text + &format!("{count:>9}  {what}\n"))
    }
}
