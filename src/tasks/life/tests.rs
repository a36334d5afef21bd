//! Steps of runs.
