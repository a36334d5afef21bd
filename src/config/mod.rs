//! What people want, read from the `KubeSchedulerConfiguration` that they have and the `IsobarConfiguration` that adds to it. In: the bytes of files.
//! Out: a complete [`Configuration`], or every problem at once with line and column.
//!
//! ```text
//! bytes --tree--> nodes with places --shape (JSON Schema)--> wire structs --resolve, plugins, args, extenders--> Configuration --show--> a file again
//! ```
//!
//! Nothing of a file is applied unless all of it is right. serde reports one fault and stops, so files are read into a tree first ([`tree`]), checked against
//! the schema that is made from the wire structs ([`shape`], [`schema`]), and only then decoded; what is wrong is cut out, so that the checks of meaning
//! still find the rest.

mod added_affinity;
mod args;
pub mod defaults;
pub mod duration;
mod extenders;
pub mod load;
pub mod merge;
mod names;
pub mod own;
pub mod own_federation;
pub mod own_tasks;
pub mod path;
mod plugins;
pub mod problem;
pub mod reload;
mod report;
mod resolve;
mod resolve_federation;
mod resolve_nats;
mod resolve_own;
mod resolve_tasks;
pub mod resolved;
mod scalar;
pub mod schema;
pub mod shape;
pub mod show;
pub mod structural;
pub mod tree;
pub mod wire;
pub mod wire_args;

pub use load::{Source, load};
pub use problem::{Problem, Problems};
pub use reload::{Reload, Reloader};
pub use resolved::Configuration;
