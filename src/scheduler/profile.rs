//! What a profile is made of once its configuration is resolved. (Being filled in by the configuration room.)

/// A resolved profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileSpec {
    /// `schedulerName`.
    pub scheduler_name: String,
}
