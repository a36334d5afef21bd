//! The `isobar` program: everything is in the library's `cli`.
//!
//! The system's allocator serves it: measured against mimalloc on 1,000 nodes and 5,000 pods it needed three fifths of the memory at the same speed.

use std::process::ExitCode;

fn main() -> ExitCode {
    isobar::cli::main()
}
