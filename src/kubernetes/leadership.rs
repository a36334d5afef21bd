//! Whether we may change anything in the cluster right now.

use tokio::{sync::watch, time::Instant};

/// What the lease allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Somebody else leads, or nobody yet.
    Standby,
    /// We lead until this instant, unless the lease is renewed before. It lies before the end of the lease as others see it.
    Until(Instant),
    /// No election takes place.
    Unlimited,
}

impl Leadership {
    /// Whether something may be written at this instant.
    pub fn allows(self, now: Instant) -> bool {
        match self {
            Self::Standby => false,
            Self::Until(deadline) => now < deadline,
            Self::Unlimited => true,
        }
    }
}

/// Asked right before each write. After the process was stopped and continued the deadline has passed, so nothing more is written, whatever was
/// under way inside.
#[derive(Clone, Debug)]
pub struct Permission(watch::Receiver<Leadership>);

impl Permission {
    /// Follows what the election says.
    pub fn new(leadership: watch::Receiver<Leadership>) -> Self {
        Self(leadership)
    }

    /// Whether something may be written now.
    pub fn granted(&self) -> bool {
        self.0.borrow().allows(Instant::now())
    }
}
