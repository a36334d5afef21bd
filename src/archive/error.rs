//! Why the archive fails, in words that say what to do. In: the store's errors with their causes. Out: one of few kinds.

use std::{error::Error, io};

use crate::kubernetes::api::with_causes;

/// The archive cannot do what was asked. The first text says what it was doing.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No folder.
    #[error("the folder {0} for logs cannot be made: {1}; make it, and let the program's user write to it")]
    Folder(String, io::Error),
    /// No permission.
    #[error(
        "{0}: permission denied ({1}); a folder must be writable for the program's user, and a bucket's key needs s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"
    )]
    Denied(String, String),
    /// Wrong or no credentials.
    #[error("{0}: the credentials are refused ({1}); check access key ID and secret access key, and that this machine's clock is right")]
    Credentials(String, String),
    /// No such bucket.
    #[error("{0}: there is no such bucket ({1}); check its name, the region and the endpoint")]
    NoBucket(String, String),
    /// No room.
    #[error("{0}: the disk is full ({1}); free some room, or lower how long and how much is kept")]
    Full(String, String),
    /// Something else, which may pass.
    #[error("{0}: {1}")]
    Unavailable(String, String),
}

impl ArchiveError {
    #[allow(clippy::needless_pass_by_value)] // it is what `map_err` hands over
    pub(super) fn of(what: &str, error: object_store::Error) -> Self {
        use object_store::Error as Store;
        let (what, why) = (format!("archive of logs, {what}"), with_causes(&error));
        let kind = io_kind(&error);
        let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
        if says(&["InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed"])
            || matches!(error, Store::Unauthenticated { .. })
        {
            return Self::Credentials(what, why);
        }
        if says(&["NoSuchBucket"]) {
            return Self::NoBucket(what, why);
        }
        match kind {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Self::Full(what, why),
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => Self::Denied(what, why),
            _ if matches!(error, Store::PermissionDenied { .. }) => Self::Denied(what, why),
            _ => Self::Unavailable(what, why),
        }
    }
}

/// What the operating system said, wherever in the chain it stands.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}
