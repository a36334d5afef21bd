//! Names of logs and what is said of them. In: names at home, however odd. Out: paths that no name leads astray, and receipts as JSON.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use crate::model::{
    fnv::fnv1a,
    ids::{PodKey, PodUid},
};

/// How the path of a text ends.
pub(super) const TEXT: &str = ".log";
/// File systems take names of 255 bytes; a pod's name has up to 253, and its UID and endings follow.
const SEGMENT_BYTES_MAX: usize = 180;

/// Whose log, by the names at home.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogKey {
    /// The home pod.
    pub pod: PodKey,
    /// Its UID.
    pub uid: PodUid,
    /// The container.
    pub container: Box<str>,
    /// Its life before the last restart.
    pub previous: bool,
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = if self.previous { ", previous life" } else { "" };
        write!(f, "{}, container {}{life}", self.pod, self.container)
    }
}

impl LogKey {
    pub(super) fn text_path(&self) -> String {
        let life = if self.previous { ".previous" } else { "" };
        format!("{}/{}{life}{TEXT}", pod_folder(&self.pod, &self.uid), segment(&self.container, ""))
    }

    pub(super) fn receipt_path(&self) -> String {
        format!("{}.json", self.text_path())
    }
}

/// Where everything of a pod is.
pub(super) fn pod_folder(pod: &PodKey, uid: &PodUid) -> String {
    format!("{}/{}_{}", segment(&pod.namespace, ""), segment(&pod.name, "."), segment(&uid.0, ""))
}

/// A name as part of a path: letters, digits, `-` and what is in `also` stay, everything else is written as `=` and two digits. One name, one part.
fn segment(name: &str, also: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'-' || also.as_bytes().contains(&byte);
        // Writing into a string does not fail.
        let _ = if plain { write!(text, "{}", char::from(byte)) } else { write!(text, "={byte:02x}") };
    }
    if text.len() > SEGMENT_BYTES_MAX {
        text.truncate(SEGMENT_BYTES_MAX - 17);
        let _ = write!(text, "={:016x}", fnv1a(0, name.bytes()));
    }
    if text.is_empty() { "=".to_owned() } else { text }
}

/// What became of a log that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogReceipt {
    /// Bytes that are kept.
    pub bytes: u64,
    /// SHA-256 of what is kept.
    pub sha256: [u8; 32],
    /// The log was read to its end, or as far as logs may be long.
    pub complete: bool,
    /// It is longer than logs may be; its last line says so.
    pub cut: bool,
}

impl LogReceipt {
    pub(super) fn to_json(self) -> String {
        let mut digest = String::with_capacity(64);
        self.sha256.iter().for_each(|byte| _ = write!(digest, "{byte:02x}"));
        json!({ "bytes": self.bytes, "sha256": digest, "complete": self.complete, "cut": self.cut }).to_string()
    }

    /// `None` for what we did not write.
    pub(super) fn from_json(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let digest = value["sha256"].as_str().filter(|digest| digest.len() == 64 && digest.is_ascii())?;
        let mut sha256 = [0; 32];
        for (at, byte) in sha256.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self { bytes: value["bytes"].as_u64()?, sha256, complete: value["complete"].as_bool()?, cut: value["cut"].as_bool()? })
    }
}
