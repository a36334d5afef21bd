//! Host ports and when two of them collide.
//!
//! Source: `framework.HostPortInfo` v1.37: 0.0.0.0 collides with every address of the same protocol and port; `::` is an address like any other.

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Reads a protocol; empty is TCP.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// A port wanted on, or taken of, a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// `hostIP`; `None` is 0.0.0.0, every address.
    pub ip: Option<Box<str>>,
    /// Protocol.
    pub protocol: Protocol,
    /// 1..=65535.
    pub port: u16,
}

impl HostPort {
    /// A port on an address; empty and `0.0.0.0` mean every address.
    pub fn new(ip: &str, protocol: Protocol, port: u16) -> Self {
        let ip = (!matches!(ip, "" | "0.0.0.0")).then(|| ip.into());
        Self { ip, protocol, port }
    }

    /// Whether both cannot be open on one node.
    pub fn collides(&self, other: &Self) -> bool {
        self.port == other.port && self.protocol == other.protocol && (self.ip.is_none() || other.ip.is_none() || self.ip == other.ip)
    }
}
