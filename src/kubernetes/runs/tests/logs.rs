//! Copies of logs into a store that is a list.
