//! Every label, annotation and finalizer of tasks, and the names that are made of others. In: keys. Out: names that mean the same in every release and
//! for every leader: that two of them make one is what keeps a firing from starting twice.

use sha2::{Digest as _, Sha256};

use super::run::TriggerKind;
use crate::model::time::Timestamp;

/// `apiVersion` of objects.
pub const API_VERSION: &str = "isobar.dev/v1alpha1";

/// Label: the task.
pub const TASK: &str = "isobar.dev/task";
/// Label of a pod: the run.
pub const RUN: &str = "isobar.dev/task-run";
/// Label of a pod: the attempt.
pub const ATTEMPT: &str = "isobar.dev/task-attempt";
/// Label: the cycle, as `20261128T0600Z`.
pub const CYCLE: &str = "isobar.dev/cycle";
/// Label: the account.
pub const ACCOUNT: &str = "isobar.dev/account";
/// Label: what started it.
pub const TRIGGER: &str = "isobar.dev/trigger";
/// Finalizer of a pod: its logs are not saved yet.
pub const LOGS_FINALIZER: &str = "isobar.dev/logs";

/// Characters of a task's name: with key, number of the attempt and hyphens it must fit into a label.
pub const TASK_CHARS_MAX: usize = 40;
/// Hexadecimal digits of a key's hash in a name.
const HASH_CHARS: usize = 10;
/// And after another run had the name.
const HASH_CHARS_LONG: usize = 14;

/// SHA-256 of a text in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}

/// What firings are told apart by: the part of a name that stands for the whole key, which the run bears in its spec.
pub fn key_hash(key: &str) -> String {
    sha256(key)[..HASH_CHARS].to_owned()
}

/// Name of the run that a firing starts. `longer`: another run has the shorter name.
pub fn run_name(task: &str, kind: TriggerKind, key: &str, longer: bool) -> String {
    let chars = if longer { HASH_CHARS_LONG } else { HASH_CHARS };
    match kind {
        TriggerKind::Cron if !longer => {
            let minutes = Timestamp::parse_rfc3339(key).map_or(0, |at| at.0 / 60_000);
            format!("{task}-c{}", base36(minutes))
        }
        _ => {
            let letter = match kind {
                TriggerKind::Manual => 'm',
                TriggerKind::Cron => 'c',
                TriggerKind::After => 'a',
                TriggerKind::Data => 'd',
            };
            format!("{task}-{letter}{}", &sha256(key)[..chars])
        }
    }
}

/// Name of an attempt's pod.
pub fn pod_name(run: &str, attempt: u32) -> String {
    format!("{run}-{attempt}")
}

/// A number in digits and small letters.
pub fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::try_from(number % 36).unwrap_or(0)]);
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().map(|digit| char::from(*digit)).collect()
}

/// A cycle as a label has it.
pub fn cycle_label(cycle: Timestamp) -> String {
    let text = cycle.to_rfc3339().replace(['-', ':'], "");
    format!("{}Z", &text[..text.len().min(13)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_keys() {
        for (kind, key, longer, name) in [
            (TriggerKind::Cron, "2026-11-28T06:00:00Z", false, "radar-chtiq0"),
            (TriggerKind::Cron, "2026-11-28T06:00:00Z", true, "radar-c"),
            (TriggerKind::Data, "radar-in/f1", false, "radar-d"),
            (TriggerKind::Data, "radar-in/f1", true, "radar-d"),
            (TriggerKind::After, "uid", false, "radar-a"),
            (TriggerKind::Manual, "suite/cycle/task/1", false, "radar-m"),
        ] {
            let made = run_name("radar", kind, key, longer);
            let hash = if longer { &sha256(key)[..14] } else { &sha256(key)[..10] };
            let wanted = if name.len() == 7 { format!("{name}{hash}") } else { name.to_owned() };
            assert_eq!(made, wanted);
        }
        assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let longest = pod_name(&run_name(&"t".repeat(TASK_CHARS_MAX), TriggerKind::Data, "k", true), 9999);
        assert!(longest.len() <= 63, "{}", longest.len());
    }

    #[test]
    fn numbers_and_cycles_are_written_short() {
        assert_eq!([0, 35, 36, 29_930_040].map(base36), ["0", "z", "10", &base36(29_930_040)]);
        assert_eq!(u64::from_str_radix(&base36(29_930_040), 36), Ok(29_930_040));
        assert_eq!(cycle_label(Timestamp::parse_rfc3339("2026-11-28T06:00:00Z").unwrap()), "20261128T0600Z");
    }
}
