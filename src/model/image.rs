//! What is known of the platforms of an image. In: what a registry or a kubelet said. Out: what the filter of architectures reads.

/// Platforms of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// The registry's index lists these, as `linux/arm64` (a variant is left out).
    Known(Vec<Box<str>>),
    /// It could not be found out: what the log says of why.
    Unknown(Box<str>),
    /// A kubelet of this platform found no match, whatever the index says.
    Lacks(Box<str>),
}
