//! Where in a document something is: `profiles[0].plugins.score.enabled[1].weight`. In: steps. Out: the dotted form that Kubernetes uses in errors.

use std::fmt;

/// One step from a node to one inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The value of a field.
    Field(String),
    /// An entry of a list, counted from 0.
    Index(usize),
}

/// The way from the root of a document to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The field `name` of this node.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.with(Step::Field(name.to_owned()))
    }

    /// Entry `index` of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// Whether this is `other` or inside it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if i == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_kubernetes_field_paths() {
        let enabled = Path::root().field("profiles").index(0).field("plugins").field("score").field("enabled");
        assert_eq!(enabled.index(1).field("weight").to_string(), "profiles[0].plugins.score.enabled[1].weight");
        assert!(enabled.index(1).is_within(&enabled));
        assert!(!enabled.is_within(&enabled.index(1)));
    }
}
