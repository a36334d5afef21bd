//! Node affinity and node selectors: the text form that objects and configuration give, and the interned form that matches nodes.
//!
//! Source: `component-helpers/scheduling/corev1/nodeaffinity` v1.37. An empty term matches nothing; a term that does not parse is skipped, the
//! others count; `matchFields` knows only `metadata.name`.

use super::{
    affinity_faults::{faults, is_label_value},
    intern::{Interner, Sym},
    labels::Labels,
};

/// `requiredDuringScheduling…` and `preferredDuringScheduling…` of a pod's `nodeAffinity`, or of `addedAffinity` in a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeAffinity {
    /// `requiredDuringSchedulingIgnoredDuringExecution`.
    pub required: Option<NodeSelector>,
    /// `preferredDuringSchedulingIgnoredDuringExecution`.
    pub preferred: Vec<PreferredTerm>,
}

/// Terms of which one must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSelector {
    /// `nodeSelectorTerms`.
    pub terms: Vec<NodeSelectorTerm>,
}

/// Requirements that must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSelectorTerm {
    /// `matchExpressions`, over labels.
    pub match_expressions: Vec<NodeSelectorRequirement>,
    /// `matchFields`, over `metadata.name`.
    pub match_fields: Vec<NodeSelectorRequirement>,
}

/// One requirement, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSelectorRequirement {
    /// Label key or field path.
    pub key: Box<str>,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt`, `Lt`.
    pub operator: Box<str>,
    /// Values, as the operator wants them.
    pub values: Vec<Box<str>>,
}

/// A term that adds its weight to a node's score.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PreferredTerm {
    /// 1..=100.
    pub weight: i32,
    /// The `preference`.
    pub term: NodeSelectorTerm,
}

/// Preferred terms that can be asked about nodes, without those that never count; or, if one of them does not parse, upstream's text for all that
/// is wrong. Then no score can be given, while a required term that does not parse only never matches.
pub type PreferredTerms = Result<Box<[(i32, TermMatcher)]>, Box<str>>;

/// Interns preferred terms as upstream keeps them: without weight or requirements a term never counts.
pub fn preferred_terms(terms: &[PreferredTerm], table: &mut Interner) -> PreferredTerms {
    let counts = |preferred: &PreferredTerm| preferred.weight != 0;
    let faults: Vec<String> =
        terms.iter().enumerate().filter(|(_, term)| counts(term)).flat_map(|(at, term)| faults(&term.term, at)).collect();
    match faults.as_slice() {
        [] => {}
        [one] => return Err(one.as_str().into()),
        many => return Err(format!("[{}]", many.join(", ")).into()),
    }
    let kept = terms.iter().filter(|preferred| counts(preferred));
    kept.filter_map(|preferred| Some((preferred.weight, TermMatcher::new(&preferred.term, table)?)))
        .map(|(weight, term)| term.map(|term| (weight, term)).map_err(|error| error.to_string().into()))
        .collect()
}

/// Why a term cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AffinityError {
    /// The operator is none of the six.
    #[error("{0:?} is not a valid node selector operator")]
    Operator(Box<str>),
    /// Wrong number of values for the operator.
    #[error("values for {0} {1}")]
    Values(Box<str>, &'static str),
    /// `Gt` and `Lt` need one integer.
    #[error("for 'Gt', 'Lt' operators, the value must be an integer")]
    NotAnInteger,
    /// Only `metadata.name` can be asked for.
    #[error("not a valid field selector key: {0:?}")]
    Field(Box<str>),
}

// === the interned form ===

/// A node selector that can be asked about nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SelectorMatcher {
    /// Terms that parse and are not empty, with those that do not parse kept as errors for those who must know.
    pub terms: Box<[Result<TermMatcher, AffinityError>]>,
    /// The nodes that can match at all, when every term pins `metadata.name`: the union over terms of the intersection of their `In` lists.
    /// `None` when some term is open. This is what makes a `DaemonSet`'s pod cheap.
    pub only_names: Option<Box<[Sym]>>,
}

/// One interned term; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TermMatcher {
    labels: Box<[Requirement]>,
    /// (wanted, name): the node's name must equal, or must not.
    names: Box<[(bool, Sym)]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Requirement {
    In(Sym, Box<[Sym]>),
    NotIn(Sym, Box<[Sym]>),
    Exists(Sym),
    DoesNotExist(Sym),
    Greater(Sym, i64),
    Less(Sym, i64),
}

impl SelectorMatcher {
    /// Interns a selector. Empty terms are dropped, as they match nothing.
    pub fn new(selector: &NodeSelector, table: &mut Interner) -> Self {
        let terms = selector.terms.iter().filter_map(|term| TermMatcher::new(term, table)).collect();
        Self { terms, only_names: only_names(selector, table) }
    }

    /// Whether one of the terms matches the node.
    pub fn matches(&self, name: Sym, labels: &Labels, table: &Interner) -> bool {
        self.terms.iter().flatten().any(|term| term.matches(name, labels, table))
    }

    /// The one value that a label must have for anything to match, if there is such a value.
    pub fn only_value_of(&self, key: Sym) -> Option<Sym> {
        let of_term = |term: &TermMatcher| {
            term.labels.iter().find_map(|requirement| match requirement {
                Requirement::In(label, values) if *label == key && values.len() == 1 => Some(values[0]),
                _ => None,
            })
        };
        match &*self.terms {
            [Ok(term)] => of_term(term),
            _ => None,
        }
    }

    /// As [`Self::matches`] where only labels are known, as upstream asks for volumes: what terms say about names is not looked at.
    pub fn matches_labels(&self, labels: &Labels, table: &Interner) -> bool {
        self.terms.iter().flatten().any(|term| term.labels.iter().all(|requirement| requirement.matches(labels, table)))
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.terms.iter().flatten().for_each(|term| term.symbols(mark));
        self.only_names.iter().flatten().for_each(|name| mark(*name));
    }
}

/// As upstream, over the terms as written: also one that is empty or does not parse keeps the set open, or adds its names.
fn only_names(selector: &NodeSelector, table: &mut Interner) -> Option<Box<[Sym]>> {
    let mut union: Vec<Sym> = Vec::new();
    for term in &selector.terms {
        let mut pins = term.match_fields.iter().filter(|field| &*field.key == "metadata.name" && &*field.operator == "In");
        let mut names = pins.next()?.values.clone();
        for pin in pins {
            names.retain(|name| pin.values.contains(name));
        }
        for name in names.iter().map(|name| table.intern(name)) {
            if !union.contains(&name) {
                union.push(name);
            }
        }
    }
    (!selector.terms.is_empty()).then(|| union.into_boxed_slice())
}

impl TermMatcher {
    /// Interns a term; `None` if it is empty and so matches nothing.
    pub fn new(term: &NodeSelectorTerm, table: &mut Interner) -> Option<Result<Self, AffinityError>> {
        if term.match_expressions.is_empty() && term.match_fields.is_empty() {
            return None;
        }
        Some(Self::parse(term, table))
    }

    fn parse(term: &NodeSelectorTerm, table: &mut Interner) -> Result<Self, AffinityError> {
        let labels = term.match_expressions.iter().map(|requirement| Requirement::parse(requirement, table)).collect::<Result<_, _>>()?;
        let names = term.match_fields.iter().map(|requirement| name_requirement(requirement, table)).collect::<Result<_, _>>()?;
        Ok(Self { labels, names })
    }

    /// Whether every requirement holds for the node.
    pub fn matches(&self, name: Sym, labels: &Labels, table: &Interner) -> bool {
        self.names.iter().all(|(wanted, named)| (*named == name) == *wanted)
            && self.labels.iter().all(|requirement| requirement.matches(labels, table))
    }

    /// All symbols held, for the sweep.
    pub fn symbols(&self, mark: &mut dyn FnMut(Sym)) {
        self.names.iter().for_each(|(_, name)| mark(*name));
        for requirement in &self.labels {
            match requirement {
                Requirement::In(key, values) | Requirement::NotIn(key, values) => {
                    mark(*key);
                    values.iter().for_each(|value| mark(*value));
                }
                Requirement::Exists(key) | Requirement::DoesNotExist(key) | Requirement::Greater(key, _) | Requirement::Less(key, _) => {
                    mark(*key);
                }
            }
        }
    }
}

impl Requirement {
    fn parse(from: &NodeSelectorRequirement, table: &mut Interner) -> Result<Self, AffinityError> {
        let wrong = |why| Err(AffinityError::Values(from.operator.clone(), why));
        let key = table.intern(&from.key);
        match &*from.operator {
            "In" | "NotIn" if from.values.is_empty() => wrong("must not be empty"),
            "Exists" | "DoesNotExist" if !from.values.is_empty() => wrong("must be empty"),
            "Gt" | "Lt" if from.values.len() != 1 => wrong("must be exactly one"),
            // As upstream: one such value spoils the whole term, though no node can carry it. A sign is none of a label's characters at its ends.
            "In" | "NotIn" | "Gt" | "Lt" if !from.values.iter().all(|value| is_label_value(value)) => wrong("must be label values"),
            "In" => Ok(Self::In(key, intern_all(&from.values, table))),
            "NotIn" => Ok(Self::NotIn(key, intern_all(&from.values, table))),
            "Exists" => Ok(Self::Exists(key)),
            "DoesNotExist" => Ok(Self::DoesNotExist(key)),
            "Gt" => Ok(Self::Greater(key, integer(&from.values[0])?)),
            "Lt" => Ok(Self::Less(key, integer(&from.values[0])?)),
            other => Err(AffinityError::Operator(other.into())),
        }
    }

    fn matches(&self, labels: &Labels, table: &Interner) -> bool {
        let number = |key| labels.get(key).and_then(|value| go_integer(table.text(value)));
        match self {
            Self::In(key, values) => labels.get(*key).is_some_and(|value| values.contains(&value)),
            Self::NotIn(key, values) => labels.get(*key).is_none_or(|value| !values.contains(&value)),
            Self::Exists(key) => labels.get(*key).is_some(),
            Self::DoesNotExist(key) => labels.get(*key).is_none(),
            Self::Greater(key, than) => number(*key).is_some_and(|value| value > *than),
            Self::Less(key, than) => number(*key).is_some_and(|value| value < *than),
        }
    }
}

fn intern_all(values: &[Box<str>], table: &mut Interner) -> Box<[Sym]> {
    values.iter().map(|value| table.intern(value)).collect()
}

fn integer(text: &str) -> Result<i64, AffinityError> {
    go_integer(text).ok_or(AffinityError::NotAnInteger)
}

/// Go's `strconv.ParseInt(text, 10, 64)`: an optional sign and decimal digits, nothing else. Rust's parser takes the same.
fn go_integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn name_requirement(from: &NodeSelectorRequirement, table: &mut Interner) -> Result<(bool, Sym), AffinityError> {
    if &*from.key != "metadata.name" {
        return Err(AffinityError::Field(from.key.clone()));
    }
    let [name] = from.values.as_slice() else {
        return Err(AffinityError::Values(from.operator.clone(), "must be exactly one"));
    };
    match &*from.operator {
        "In" => Ok((true, table.intern(name))),
        "NotIn" => Ok((false, table.intern(name))),
        other => Err(AffinityError::Operator(other.into())),
    }
}
