//! `PrioritySort`: the pod with the higher priority first, then the one that was added to a queue earlier. Priority and time in, a rank out.
//!
//! Source: kube-scheduler v1.37 `PrioritySort`.

use crate::{
    model::time::Timestamp,
    scheduler::{
        change::Changes,
        framework::{Plugin, QueueSort, SortKey},
    },
};

/// See the module.
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn queue_sort(&self) -> Option<&dyn QueueSort> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::NONE
    }
}

impl QueueSort for PrioritySort {
    fn key(&self, priority: i32, queued_at: Timestamp) -> SortKey {
        (-i64::from(priority), queued_at.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_then_time() {
        let key = |priority, at| PrioritySort.key(priority, Timestamp(at));
        let sorted = [key(i32::MAX, 9), key(1, 1), key(1, 2), key(0, 0), key(-1, 0), key(i32::MIN, 0)];
        assert!(sorted.is_sorted_by(|a, b| a < b));
    }
}
