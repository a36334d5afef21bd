//! Groups of pods that are placed together or not at all. In: annotations of a pod, or `spec.schedulingGroup`, and `PodGroup` objects, as they say it. Out: of
//! which group a pod is a member, what the group asks for, or what is wrong with what the pod says.

use super::time::DurationMs;

/// Annotation of a pod: the gang in its namespace that it is a member of.
pub const GANG: &str = "isobar.dev/gang";
/// Annotation of the same pod: at least so many members are placed at once, or none. Members that differ: the largest counts.
pub const GANG_MIN_COUNT: &str = "isobar.dev/gang-min-count";
/// Annotation of the same pod: how long decided members may wait for the others before all give their nodes back. The shortest counts.
pub const GANG_TIMEOUT: &str = "isobar.dev/gang-timeout-seconds";

/// Members that one gang may ask for: all of them are decided upon in one step, during which nothing else is.
pub const MIN_COUNT_MAX: u32 = 10_000;
/// As upstream's `GangScheduling` waits.
pub const TIMEOUT_DEFAULT: DurationMs = DurationMs::from_secs(5 * 60);
/// As no plugin may hold a pod for longer.
pub const TIMEOUT_MAX: DurationMs = DurationMs::from_secs(15 * 60);
/// As long as the name of any object.
const NAME_BYTES_MAX: usize = 253;

/// What a pod says about the group that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// By annotations.
    Gang {
        /// Name of the gang within the pod's namespace.
        name: Box<str>,
        /// So many at once, at least.
        min_count: u32,
        /// How long decided members may wait for others.
        timeout: DurationMs,
    },
    /// By `spec.schedulingGroup.podGroupName`.
    PodGroup(Box<str>),
    /// By annotations that cannot be followed: why, and what to do.
    Faulty(Box<str>),
}

/// Reads what a pod says: its annotations by key, be they empty, and the name in its `schedulingGroup`. The annotations go first: they ask us.
pub fn membership<'a>(annotation: impl Fn(&str) -> Option<&'a str>, pod_group: Option<&str>) -> Option<Membership> {
    let [gang, min_count, timeout] = [GANG, GANG_MIN_COUNT, GANG_TIMEOUT].map(annotation);
    let Some(name) = gang else {
        let stray = min_count.map(|_| GANG_MIN_COUNT).or(timeout.map(|_| GANG_TIMEOUT));
        let fault = stray.map(|key| Membership::Faulty(format!("annotation {key} is of no use without {GANG}: name the gang").into()));
        return fault.or_else(|| pod_group.map(|name| Membership::PodGroup(name.into())));
    };
    Some(read(name, min_count, timeout).unwrap_or_else(|why| Membership::Faulty(why.into())))
}

fn read(name: &str, min_count: Option<&str>, timeout: Option<&str>) -> Result<Membership, String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(|c| c.is_control() || c == '"') {
        return Err(format!("annotation {GANG} is no name: give 1 to {NAME_BYTES_MAX} characters"));
    }
    let missing = || format!("annotation {GANG_MIN_COUNT} is missing: say how many pods of gang {name:?} are to be placed at once");
    let min_count = number(GANG_MIN_COUNT, min_count.ok_or_else(missing)?, MIN_COUNT_MAX)?;
    let timeout = timeout.map(|text| number(GANG_TIMEOUT, text, u32::try_from(TIMEOUT_MAX.0 / 1000).unwrap_or(u32::MAX))).transpose()?;
    let timeout = timeout.map_or(TIMEOUT_DEFAULT, |seconds| DurationMs::from_secs(u64::from(seconds)));
    Ok(Membership::Gang { name: name.into(), min_count, timeout })
}

fn number(key: &str, text: &str, most: u32) -> Result<u32, String> {
    let shown: String = text.chars().take(40).collect();
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("annotation {key} is {shown:?}: give a whole number from 1 to {most}"))
}

/// A `PodGroup` object of home, reduced to what scheduling reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodGroupFacts {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.schedulingPolicy.gang.minCount`; `None`: policy `basic`, which asks for nothing together.
    pub min_count: Option<u32>,
    /// What of its spec this version does not follow: its pods are kept pending with this text.
    pub not_followed: Option<Box<str>>,
    /// `spec.disruptionMode.all`: who ends one of its pods ends them all.
    pub is_disrupted_whole: bool,
    /// Condition `PodGroupInitiallyScheduled`: whether it is `True`, reason and message.
    pub condition: Option<(bool, Box<str>, Box<str>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &'static str)]) -> Option<Membership> {
        membership(|key| pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value), None)
    }

    #[test]
    fn annotations_name_a_gang() {
        let gang = |min_count, seconds| Some(Membership::Gang { name: "g".into(), min_count, timeout: DurationMs::from_secs(seconds) });
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[(GANG, "g"), (GANG_MIN_COUNT, "1")]), gang(1, 300));
        assert_eq!(said(&[(GANG, "g"), (GANG_MIN_COUNT, "10000"), (GANG_TIMEOUT, "900")]), gang(10_000, 900));
        assert_eq!(membership(|_| None, Some("p")), Some(Membership::PodGroup("p".into())));
        assert_eq!(
            membership(|key| [(GANG, "g"), (GANG_MIN_COUNT, "2")].iter().find(|(k, _)| *k == key).map(|(_, v)| *v), Some("p")),
            gang(2, 300)
        );
    }

    #[test]
    fn what_cannot_be_followed_is_told() {
        for (pairs, want) in [
            (&[(GANG, "")][..], "annotation isobar.dev/gang is no name: give 1 to 253 characters"),
            (&[(GANG, "a\"b"), (GANG_MIN_COUNT, "2")], "annotation isobar.dev/gang is no name: give 1 to 253 characters"),
            (&[(GANG, "g")], "annotation isobar.dev/gang-min-count is missing: say how many pods of gang \"g\" are to be placed at once"),
            (&[(GANG, "g"), (GANG_MIN_COUNT, "0")], "annotation isobar.dev/gang-min-count is \"0\": give a whole number from 1 to 10000"),
            (
                &[(GANG, "g"), (GANG_MIN_COUNT, "10001")],
                "annotation isobar.dev/gang-min-count is \"10001\": give a whole number from 1 to 10000",
            ),
            (
                &[(GANG, "g"), (GANG_MIN_COUNT, "two")],
                "annotation isobar.dev/gang-min-count is \"two\": give a whole number from 1 to 10000",
            ),
            (
                &[(GANG, "g"), (GANG_MIN_COUNT, "2"), (GANG_TIMEOUT, "901")],
                "annotation isobar.dev/gang-timeout-seconds is \"901\": give a whole number from 1 to 900",
            ),
            (&[(GANG_MIN_COUNT, "2")], "annotation isobar.dev/gang-min-count is of no use without isobar.dev/gang: name the gang"),
        ] {
            assert_eq!(said(pairs), Some(Membership::Faulty(want.into())), "{pairs:?}");
        }
    }
}
