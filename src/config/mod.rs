//! temporary
pub mod duration;
pub mod own;
pub mod merge;
pub mod names;
pub mod path;
pub mod problem;
pub mod report;
pub mod scalar;
pub mod schema;
pub mod shape;
pub mod tree;
pub mod wire;
pub mod wire_args;
