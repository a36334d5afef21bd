//! Lines of a watch and pages of a list: bytes in, facts and positions out.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    BadObject, Watched, bad,
    json::{Text, or_default},
    meta::{BookmarkWire, ListMetaWire, MetaWire, NamedWire, StatusWire},
    read_value,
};
use crate::model::ids::ClusterId;

/// Annotation on the bookmark that ends the initial events of a streaming list (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What one line of a watch says.
#[derive(Debug)]
pub enum Happening<K> {
    /// An object was added or changed.
    Seen {
        /// What it says now.
        facts: Box<K>,
        /// Where the stream is.
        resource_version: Box<str>,
        /// Under which name the cache files it.
        key: Box<str>,
    },
    /// An object is gone, or left the selection.
    Gone {
        /// Where the stream is.
        resource_version: Box<str>,
        /// Under which name the cache files it.
        key: Box<str>,
    },
    /// How far the stream is.
    Bookmark {
        /// Where the stream is.
        resource_version: Box<str>,
        /// All that existed has been sent.
        initial_end: bool,
    },
    /// The stream is over, and why.
    Failed {
        /// As an HTTP status; 410 asks for a new list.
        code: u16,
        /// One word.
        reason: Box<str>,
        /// For people.
        message: Box<str>,
    },
    /// A kind of event that does not exist yet; skipped.
    Unknown(Box<str>),
}

/// Reads one line of a watch.
pub fn read_happening<K: Watched>(line: &[u8], cluster: ClusterId) -> Result<Happening<K>, BadObject> {
    let why = match serde_json::from_slice::<EventWire<'_, K>>(line) {
        Ok(event) => match event.happening(cluster) {
            Ok(happening) => return Ok(happening),
            Err(bad) => return Err(bad),
        },
        Err(error) => error.to_string(),
    };
    // Either the object is bad, or the fields come in an order that nobody writes. Slow, and rare.
    let Ok(tree) = serde_json::from_slice::<serde_json::Value>(line) else {
        return Err(bad::<K>(&MetaWire::default(), why));
    };
    let object = tree.get("object").unwrap_or(&serde_json::Value::Null);
    match tree.get("type").and_then(serde_json::Value::as_str) {
        Some("ADDED" | "MODIFIED") => {
            let facts = Box::new(read_value::<K>(object, cluster)?);
            let named = NamedWire::deserialize(object).unwrap_or_default();
            Ok(Happening::Seen { facts, resource_version: named.metadata.resource_version.boxed(), key: K::key(&named.metadata) })
        }
        _ => Err(bad::<K>(&NamedWire::deserialize(object).unwrap_or_default().metadata, why)),
    }
}

enum EventWire<'a, K: Watched> {
    Seen(Box<K::Wire<'a>>),
    Gone(NamedWire<'a>),
    Bookmark(BookmarkWire<'a>),
    Failed(StatusWire<'a>),
    Unknown(Text<'a>),
}

impl<K: Watched> EventWire<'_, K> {
    fn happening(self, cluster: ClusterId) -> Result<Happening<K>, BadObject> {
        Ok(match self {
            Self::Seen(wire) => {
                let meta = K::meta(&wire);
                let facts = K::facts(&wire).map_err(|why| bad::<K>(meta, why.into_owned()))?.of(cluster);
                Happening::Seen { facts: Box::new(facts), resource_version: meta.resource_version.boxed(), key: K::key(meta) }
            }
            Self::Gone(named) => {
                Happening::Gone { resource_version: named.metadata.resource_version.boxed(), key: K::key(&named.metadata) }
            }
            Self::Bookmark(BookmarkWire { metadata }) => Happening::Bookmark {
                resource_version: metadata.resource_version.boxed(),
                initial_end: metadata.annotations.get(INITIAL_EVENTS_END) == Some("true"),
            },
            Self::Failed(status) => Happening::Failed { code: status.code, reason: status.reason.boxed(), message: status.message.boxed() },
            Self::Unknown(kind) => Happening::Unknown(kind.boxed()),
        })
    }
}

impl<'de, K: Watched> Deserialize<'de> for EventWire<'de, K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor::<K>(PhantomData))
    }
}

struct EventVisitor<K>(PhantomData<fn() -> K>);

impl<'de, K: Watched> Visitor<'de> for EventVisitor<K> {
    type Value = EventWire<'de, K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a watch event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut event) = (Text::default(), None);
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match key.as_str() {
                "type" => kind = map.next_value()?,
                "object" => {
                    event = Some(match kind.as_str() {
                        "ADDED" | "MODIFIED" => EventWire::Seen(Box::new(map.next_value()?)),
                        "DELETED" => EventWire::Gone(map.next_value()?),
                        "BOOKMARK" => EventWire::Bookmark(map.next_value()?),
                        "ERROR" => EventWire::Failed(map.next_value()?),
                        "" => return Err(A::Error::custom("the event's object stands before its type")),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            EventWire::Unknown(kind.clone())
                        }
                    });
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        event.ok_or_else(|| A::Error::missing_field("object"))
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<K> {
    /// What could be read, with the name under which the cache files it, and what could not.
    pub items: Vec<Result<(K, Box<str>), BadObject>>,
    /// The version from which to watch on.
    pub resource_version: Box<str>,
    /// Token of the next page, empty at the end.
    pub next: Box<str>,
}

/// Reads one page of a list. Fails only if the page as a whole is no list.
pub fn read_page<K: Watched>(body: &[u8], cluster: ClusterId) -> Result<Page<K>, serde_json::Error> {
    let (metadata, items) = match serde_json::from_slice::<PageWire<'_, K>>(body) {
        Ok(page) => (page.metadata, page.items.0),
        Err(error) if error.is_data() => return read_page_slowly(body, cluster),
        Err(error) => return Err(error),
    };
    let items = items.into_iter().map(|item| item.map(|(facts, key)| (facts.of(cluster), key))).collect();
    Ok(Page { items, resource_version: metadata.resource_version.boxed(), next: metadata.next.boxed() })
}

/// One object of the page is bad in a way that stops the parser: the page is read as a tree, and each object for itself.
fn read_page_slowly<K: Watched>(body: &[u8], cluster: ClusterId) -> Result<Page<K>, serde_json::Error> {
    let tree: serde_json::Value = serde_json::from_slice(body)?;
    let metadata = ListMetaWire::deserialize(tree.get("metadata").unwrap_or(&serde_json::Value::Null)).unwrap_or_default();
    let objects = tree.get("items").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let read = |object: &serde_json::Value| {
        let key = K::key(&NamedWire::deserialize(object).unwrap_or_default().metadata);
        read_value::<K>(object, cluster).map(|facts| (facts, key))
    };
    let items = objects.iter().map(read).collect();
    Ok(Page { items, resource_version: metadata.resource_version.boxed(), next: metadata.next.boxed() })
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct PageWire<'a, K: Watched> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    metadata: ListMetaWire<'a>,
    #[serde(default = "Items::none")]
    items: Items<K>,
}

/// Objects become facts one by one while the page is read, so that only facts pile up.
struct Items<K>(Vec<Result<(K, Box<str>), BadObject>>);

impl<K> Items<K> {
    fn none() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Watched> Deserialize<'de> for Items<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemsVisitor(PhantomData))
    }
}

struct ItemsVisitor<K>(PhantomData<fn() -> K>);

impl<'de, K: Watched> Visitor<'de> for ItemsVisitor<K> {
    type Value = Items<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(wire) = seq.next_element::<K::Wire<'de>>()? {
            let meta = K::meta(&wire);
            items.push(match K::facts(&wire) {
                Ok(facts) => Ok((facts, K::key(meta))),
                Err(why) => Err(bad::<K>(meta, why.into_owned())),
            });
        }
        Ok(Items(items))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Items::none())
    }
}
