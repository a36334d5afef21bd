//! Label selectors of pods and namespaces: as objects say them, and interned to be asked about labels.
//!
//! Source: `metav1.LabelSelectorAsSelector` and `labels.NewRequirement` v1.37. An absent selector matches nothing, an empty one everything.

use super::{
    affinity::NodeSelectorRequirement,
    affinity_faults::requirement_faults,
    intern::{Interner, Sym},
    labels::{LabelFacts, Labels},
};

/// A `metav1.LabelSelector` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelectorFacts {
    /// `matchLabels`.
    pub match_labels: LabelFacts,
    /// `matchExpressions`.
    pub match_expressions: Vec<NodeSelectorRequirement>,
}

/// A selector that can be asked about labels. Equal selectors are equal however their parts were ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// Matches nothing: the selector was absent.
    #[default]
    Nothing,
    /// All requirements hold; none of them is everything.
    All(Box<[Requirement]>),
}

/// One requirement of a selector, its values sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The label is there with one of the values.
    In(Sym, Box<[Sym]>),
    /// The label is not there, or has none of the values.
    NotIn(Sym, Box<[Sym]>),
    /// The label is there.
    Exists(Sym),
    /// The label is not there.
    DoesNotExist(Sym),
}

impl Requirement {
    fn parse(from: &NodeSelectorRequirement, table: &mut Interner) -> Result<Self, Box<str>> {
        if !matches!(&*from.operator, "In" | "NotIn" | "Exists" | "DoesNotExist") {
            return Err(format!("{:?} is not a valid label selector operator", from.operator).into());
        }
        let faults = requirement_faults(from);
        if !faults.is_empty() {
            return Err(aggregated(faults).into());
        }
        let key = table.intern(&from.key);
        let mut values: Vec<Sym> = from.values.iter().map(|value| table.intern(value)).collect();
        values.sort_unstable();
        values.dedup();
        Ok(match &*from.operator {
            "In" => Self::In(key, values.into()),
            "NotIn" => Self::NotIn(key, values.into()),
            "Exists" => Self::Exists(key),
            _ => Self::DoesNotExist(key),
        })
    }

    /// The label that it reads.
    pub fn key(&self) -> Sym {
        match self {
            Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::DoesNotExist(key) => *key,
        }
    }

    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(*key).is_some_and(|value| values.contains(&value)),
            Self::NotIn(key, values) => labels.get(*key).is_none_or(|value| !values.contains(&value)),
            Self::Exists(key) => labels.get(*key).is_some(),
            Self::DoesNotExist(key) => labels.get(*key).is_none(),
        }
    }
}

/// Several errors as Go's `errors.Aggregate` prints them; one stands for itself.
pub fn aggregated(mut faults: Vec<String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    faults.retain(|fault| {
        !seen.contains(fault) && {
            seen.push(fault.clone());
            true
        }
    });
    if faults.len() == 1 { faults.remove(0) } else { format!("[{}]", faults.join(", ")) }
}

impl Selector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::All(Box::default())
    }

    /// Interns a selector, or says in upstream's words why it cannot be.
    pub fn parse(facts: Option<&LabelSelectorFacts>, table: &mut Interner) -> Result<Self, Box<str>> {
        let Some(facts) = facts else { return Ok(Self::Nothing) };
        let equal = |(key, value): &(Box<str>, Box<str>)| NodeSelectorRequirement {
            key: key.clone(),
            operator: "In".into(),
            values: vec![value.clone()],
        };
        let labels = facts.match_labels.iter().map(equal);
        let all = labels.chain(facts.match_expressions.iter().cloned());
        all.map(|requirement| Requirement::parse(&requirement, table)).collect::<Result<Vec<_>, _>>().map(Self::all)
    }

    /// All of these must hold.
    pub fn all(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_unstable();
        requirements.dedup();
        Self::All(requirements.into())
    }

    /// Whether it is the one that matches everything.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }

    /// Whether labels match.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|requirement| requirement.matches(labels)),
        }
    }

    /// What must hold; nothing of the selector that matches nothing.
    pub fn requirements(&self) -> &[Requirement] {
        match self {
            Self::Nothing => &[],
            Self::All(requirements) => requirements,
        }
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        for requirement in self.requirements() {
            mark(requirement.key());
            if let Requirement::In(_, values) | Requirement::NotIn(_, values) = requirement {
                values.iter().for_each(|value| mark(*value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(labels: &[(&str, &str)], expressions: &[(&str, &str, &[&str])]) -> LabelSelectorFacts {
        let requirement = |(key, operator, values): &(&str, &str, &[&str])| NodeSelectorRequirement {
            key: (*key).into(),
            operator: (*operator).into(),
            values: values.iter().map(|value| Box::from(*value)).collect(),
        };
        LabelSelectorFacts {
            match_labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            match_expressions: expressions.iter().map(requirement).collect(),
        }
    }

    #[test]
    fn absent_matches_nothing_and_empty_everything() {
        let mut table = Interner::default();
        let labels = Labels::intern(&[("a".into(), "1".into()), ("b".into(), "".into())], &mut table);
        for (selector, want) in [
            (None, false),
            (Some(facts(&[], &[])), true),
            (Some(facts(&[("a", "1")], &[])), true),
            (Some(facts(&[("a", "1"), ("a", "2")], &[])), false),
            (Some(facts(&[("a", "1")], &[("b", "Exists", &[])])), true),
            (Some(facts(&[], &[("a", "In", &["2", "1"])])), true),
            (Some(facts(&[], &[("a", "NotIn", &["1"])])), false),
            (Some(facts(&[], &[("c", "NotIn", &["1"])])), true),
            (Some(facts(&[], &[("c", "DoesNotExist", &[])])), true),
            (Some(facts(&[], &[("b", "DoesNotExist", &[])])), false),
        ] {
            assert_eq!(Selector::parse(selector.as_ref(), &mut table).unwrap().matches(&labels), want, "{selector:?}");
        }
        let same = [
            facts(&[("a", "1"), ("b", "2")], &[("c", "In", &["x", "y"])]),
            facts(&[("b", "2")], &[("c", "In", &["y", "x", "y"]), ("a", "In", &["1"])]),
        ];
        let [one, other] = same.map(|facts| Selector::parse(Some(&facts), &mut table).unwrap());
        assert_eq!(one, other);
    }

    #[test]
    fn what_does_not_parse_is_said_in_upstreams_words() {
        for (selector, want) in [
            (facts(&[], &[("a", "Like", &[])]), r#""Like" is not a valid label selector operator"#),
            (facts(&[], &[("a", "Gt", &["1"])]), r#""Gt" is not a valid label selector operator"#),
            (facts(&[], &[("a", "In", &[])]), "values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty"),
            (
                facts(&[], &[("a", "Exists", &["1"])]),
                r#"values: Invalid value: ["1"]: values set must be empty for exists and does not exist"#,
            ),
            (facts(&[("/a", "1")], &[]), r#"key: Invalid value: "/a": prefix part must be non-empty"#),
        ] {
            let error = Selector::parse(Some(&selector), &mut Interner::default()).unwrap_err();
            assert_eq!(&*error, want);
        }
        let both = facts(&[], &[("a b", "In", &[])]);
        let error = Selector::parse(Some(&both), &mut Interner::default()).unwrap_err();
        assert!(
            error.starts_with("[key: Invalid value: \"a b\": name part must consist of") && error.ends_with("can't be empty]"),
            "{error}"
        );
    }
}
