//! How a pod behaves on the fake kubelet. In: its annotations, and the environment of its containers, which travels where annotations do not. Out: how long
//! it runs, how it ends, what the kubelet refuses.
//!
//! `sim.isobar.dev/run-ms` as an annotation and `SIM_RUN_MS` in the environment of any container are the same; the annotation wins.

use std::collections::BTreeMap;

use tokio::time::Duration;

/// Milliseconds from Running to the end; for ever when absent. Several, separated by commas, for one attempt of a task's run after the other, the last for
/// all that follow.
pub const RUN_MS: &str = "sim.isobar.dev/run-ms";
/// The exit code of all containers; several, separated by commas, for one life after the other, the last for all that follow. 0 when absent.
pub const EXIT_CODE: &str = "sim.isobar.dev/exit-code";
/// The kubelet refuses the pod with this reason before anything starts, such as `OutOfcpu`.
pub const REJECT: &str = "sim.isobar.dev/reject";
/// How often, counted over all runs of one home pod; always when absent.
pub const REJECT_TIMES: &str = "sim.isobar.dev/reject-times";
/// On which nodes, separated by commas; on all when absent.
pub const REJECT_NODES: &str = "sim.isobar.dev/reject-nodes";
/// Platforms that the images have, separated by commas, such as `linux/amd64`; all when absent.
pub const PLATFORMS: &str = "sim.isobar.dev/platforms";
/// Milliseconds between two lines of every container's log.
pub const LOG_MS: &str = "sim.isobar.dev/log-ms";

const PREFIX: &str = "sim.isobar.dev/";
/// Which attempt of a run a pod is, as the room of tasks tells its containers.
const ATTEMPT: &str = "ATTEMPT";

/// The name of the environment variable that means the same as an annotation.
pub fn variable(annotation: &str) -> String {
    format!("SIM_{}", annotation.strip_prefix(PREFIX).unwrap_or(annotation).replace('-', "_").to_uppercase())
}

/// See the constants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// [`RUN_MS`].
    pub run: Option<Duration>,
    /// [`EXIT_CODE`].
    pub exit_codes: Vec<i32>,
    /// [`REJECT`].
    pub reject: Option<String>,
    /// [`REJECT_TIMES`].
    pub reject_times: Option<u32>,
    /// [`REJECT_NODES`].
    pub reject_nodes: Vec<String>,
    /// [`PLATFORMS`].
    pub platforms: Vec<String>,
    /// [`LOG_MS`].
    pub log_interval: Option<Duration>,
}

impl Behaviour {
    /// Reads what a pod says; what does not parse counts as absent.
    pub fn read(annotations: &BTreeMap<String, String>, environment: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| annotations.get(name).or_else(|| environment.get(&variable(name))).map(String::as_str);
        let list = |name: &str| -> Vec<String> {
            text(name).unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_string).collect()
        };
        let number = |name: &str| text(name).and_then(|text| text.trim().parse::<u64>().ok());
        let attempt = environment.get(ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(1_u32);
        let run_ms: Vec<u64> = list(RUN_MS).iter().filter_map(|text| text.parse().ok()).collect();
        Self {
            run: nth(&run_ms, attempt.saturating_sub(1)).map(Duration::from_millis),
            exit_codes: list(EXIT_CODE).iter().filter_map(|code| code.parse().ok()).collect(),
            reject: text(REJECT).filter(|reason| !reason.is_empty()).map(str::to_string),
            reject_times: number(REJECT_TIMES).and_then(|times| u32::try_from(times).ok()),
            reject_nodes: list(REJECT_NODES),
            platforms: list(PLATFORMS),
            log_interval: number(LOG_MS).map(Duration::from_millis),
        }
    }

    /// The exit code of a life, the first being 0.
    pub fn exit_code(&self, life: u32) -> i32 {
        nth(&self.exit_codes, life).unwrap_or(0)
    }

    /// Why the kubelet refuses the pod on a node, if it refused it so often before.
    pub fn rejection(&self, node: &str, before: u32) -> Option<&str> {
        let here = self.reject_nodes.is_empty() || self.reject_nodes.iter().any(|known| known == node);
        let still = self.reject_times.is_none_or(|times| before < times);
        self.reject.as_deref().filter(|_| here && still)
    }

    /// Whether the images run on a platform such as `linux/arm64`.
    pub fn runs_on(&self, platform: &str) -> bool {
        self.platforms.is_empty() || self.platforms.iter().any(|known| known == platform)
    }
}

/// The one at a place of a list, the last one beyond its end.
fn nth<T: Copy>(list: &[T], at: u32) -> Option<T> {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(list.len().checked_sub(1)?);
    list.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_and_environment_say_the_same() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        let annotations: BTreeMap<_, _> = map(&[(RUN_MS, "5000")]);
        let environment: BTreeMap<_, _> =
            map(&[("SIM_RUN_MS", "1"), ("SIM_EXIT_CODE", "1, 1,0"), ("SIM_REJECT", "OutOfcpu"), ("SIM_REJECT_TIMES", "2")]);
        let read = Behaviour::read(&annotations, &environment);
        assert_eq!(read.run, Some(Duration::from_secs(5)));
        assert_eq!([0, 1, 2, 3].map(|life| read.exit_code(life)), [1, 1, 0, 0]);
        assert_eq!([0, 1, 2].map(|before| read.rejection("n", before).is_some()), [true, true, false]);
        assert!(read.runs_on("linux/arm64"));
    }

    #[test]
    fn each_attempt_of_a_run_may_take_another_time() {
        for (attempt, seconds) in [("1", 600), ("2", 20), ("3", 20), ("first", 600)] {
            let environment = [("SIM_RUN_MS", "600000,20000"), (ATTEMPT, attempt)];
            let environment = environment.map(|(name, value)| (name.to_string(), value.to_string())).into_iter().collect();
            assert_eq!(Behaviour::read(&BTreeMap::new(), &environment).run, Some(Duration::from_secs(seconds)), "{attempt}");
        }
    }
}
