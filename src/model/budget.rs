//! A `PodDisruptionBudget`, reduced to what preemption reads.

use super::selector::LabelSelectorFacts;

/// What is read of one `PodDisruptionBudget` (`policy/v1`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetFacts {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `spec.selector`; absent, it chooses nobody.
    pub selector: Option<LabelSelectorFacts>,
    /// `status.disruptionsAllowed`.
    pub allowed: i32,
    /// Names in `status.disruptedPods`: evictions that the API server has let through and that are still counted.
    pub disrupted: Vec<Box<str>>,
}
