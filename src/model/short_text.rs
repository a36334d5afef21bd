//! Text that is mostly short. In: text. Out: the same, held in place up to 38 bytes, so that to compare two touches no second place in memory, and a copy
//! costs no allocation.

use std::{cmp::Ordering, fmt, hash, ops::Deref};

/// Bytes held in place: a UUID has 36, and with more the whole would be larger than 40.
const IN_PLACE: usize = 38;

/// See the module.
#[derive(Clone)]
pub struct ShortText(Held);

#[derive(Clone)]
enum Held {
    /// So many bytes of these; the others are zero.
    Here(u8, [u8; IN_PLACE]),
    /// More than fit.
    There(Box<str>),
}

impl ShortText {
    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Held::Here(count, bytes) => bytes.get(..usize::from(*count)).unwrap_or_default(),
            Held::There(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for ShortText {
    fn from(text: &str) -> Self {
        let mut bytes = [0; IN_PLACE];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(count), Some(place)) => {
                place.copy_from_slice(text.as_bytes());
                Self(Held::Here(count, bytes))
            }
            _ => Self(Held::There(text.into())),
        }
    }
}

impl From<Box<str>> for ShortText {
    fn from(text: Box<str>) -> Self {
        if text.len() > IN_PLACE { Self(Held::There(text)) } else { Self::from(&*text) }
    }
}

impl From<String> for ShortText {
    fn from(text: String) -> Self {
        if text.len() > IN_PLACE { Self(Held::There(text.into())) } else { Self::from(&*text) }
    }
}

impl From<ShortText> for Box<str> {
    fn from(text: ShortText) -> Self {
        match text.0 {
            Held::There(text) => text,
            Held::Here(..) => (&*text).into(),
        }
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            // It was text when it came.
            Held::Here(..) => std::str::from_utf8(self.bytes()).unwrap_or_default(),
            Held::There(text) => text,
        }
    }
}

impl PartialEq for ShortText {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Held::Here(count, bytes), Held::Here(others, other)) => count == others && bytes == other,
            (Held::There(text), Held::There(other)) => text == other,
            _ => false,
        }
    }
}

impl Eq for ShortText {}

impl PartialOrd for ShortText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShortText {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl hash::Hash for ShortText {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        state.write(self.bytes());
    }
}

impl Default for ShortText {
    fn default() -> Self {
        Self::from("")
    }
}

impl serde::Serialize for ShortText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use proptest::prelude::*;
    use rustc_hash::FxBuildHasher;

    use super::*;

    #[test]
    fn it_is_no_larger_than_it_says() {
        assert_eq!(size_of::<ShortText>(), 40);
        let text = "x".repeat(IN_PLACE);
        assert!(matches!(ShortText::from(&*text).0, Held::Here(38, _)) && matches!(ShortText::from(format!("{text}y")).0, Held::There(_)));
    }

    proptest! {
        #[test]
        fn it_is_as_the_text_is(a in "\\PC{0,45}", b in "\\PC{0,45}") {
            let (short, other) = (ShortText::from(&*a), ShortText::from(b.clone()));
            prop_assert_eq!(&*short, &*a);
            prop_assert_eq!(short == other, a == b);
            prop_assert_eq!(short.cmp(&other), a.cmp(&b));
            prop_assert_eq!(short.to_string(), &*a);
            prop_assert_eq!(Box::<str>::from(short.clone()), a.clone().into_boxed_str());
            let again = ShortText::from(a.into_boxed_str());
            prop_assert_eq!(FxBuildHasher.hash_one(&short), FxBuildHasher.hash_one(&again));
        }
    }
}
