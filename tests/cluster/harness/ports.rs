//! Loopback ports. Out: a port that was free a moment ago.

use std::net::TcpListener;

use anyhow::{Context as _, Result};

/// The kernel hands out ephemeral ports in turn, so another program taking it before our child does is unlikely; a child that finds it taken
/// ends, and the control plane is started again with other ports.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("bind a loopback port")?;
    Ok(listener.local_addr()?.port())
}
