//! The queue as a state machine, checked against a list.
