//! A small memory of the API server's answers about callers. In: a question, an answer, for how long it holds. Out: the answer, until then.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// Answers held at most. Scrapers and people are a handful; more than this within seconds are made-up tokens.
const ANSWERS_MAX: usize = 1024;

/// Answers that are still good.
pub(super) struct Answers<K, V> {
    entries: HashMap<K, (Instant, V)>,
}

impl<K: Eq + Hash, V: Clone> Answers<K, V> {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new() }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, question: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (until, answer) = self.entries.get(question)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    pub(super) fn put(&mut self, question: K, answer: V, good_for: Duration) {
        let now = Instant::now();
        if self.entries.len() >= ANSWERS_MAX {
            self.entries.retain(|_, (until, _)| now < *until);
        }
        if self.entries.len() >= ANSWERS_MAX {
            // Under a flood, forgetting costs a question more for the honest few, and nothing else.
            self.entries.clear();
        }
        self.entries.insert(question, (now + good_for, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_exactly_as_long_as_told() {
        let mut answers = Answers::<String, bool>::new();
        answers.put("a".into(), true, Duration::from_secs(10));
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(answers.get("a"), Some(true));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(answers.get("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn their_number_is_bounded() {
        let mut answers = Answers::<String, usize>::new();
        for number in 0..=(ANSWERS_MAX * 3) {
            answers.put(number.to_string(), number, Duration::from_secs(10));
            assert!(answers.entries.len() <= ANSWERS_MAX);
            assert_eq!(answers.get(&number.to_string()[..]), Some(number));
        }
    }
}
