//! A file as a tree that remembers where everything stood. In: YAML or JSON text. Out: documents of nodes with line and column, and every fault on the way.
//!
//! serde stops at the first fault and then says nothing of the rest, so the file is read in two steps: this one (syntax, duplicate keys, aliases), and the
//! shape check in `shape.rs`, which walks the tree by the JSON Schema and finds all unknown fields and wrong types at once. Scalars keep their text: whether
//! `on` is a boolean or a word is known only where the schema says what is expected.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::config::path::{Path, Step};

/// Longest file, in bytes: what a `ConfigMap` can hold.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Most nodes of one file after aliases are expanded: a thousand full profiles. Bounds alias bombs.
const NODES_MAX: usize = 200_000;
/// Deepest nesting: addedAffinity, the deepest part of a real file, has 12.
const DEPTH_MAX: usize = 64;

/// A place in a text: line and column counted from 1, width in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// How many characters, at least 1.
    pub width: u32,
}

/// A value and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins.
    pub at: Spot,
}

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// Text without quotes: word, number or boolean.
    Plain(String),
    /// Text in quotes or a block: always a string.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Fields in the order of the file; names are unique.
    Map(Vec<Entry>),
}

/// A field of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where the name stood.
    pub name_at: Spot,
    /// Its value.
    pub value: Node,
}

/// Something wrong at a place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in the text.
    pub at: Spot,
    /// Where in the document.
    pub path: Path,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Node {
    /// The field of that name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.name == name),
            _ => None,
        }
    }

    /// The text of a scalar field.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.value.value {
            Value::Plain(text) | Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of the deepest node on the way to `path`; a field that is absent is shown at its parent.
    pub fn locate(&self, path: &Path) -> Spot {
        let mut node = self;
        let mut at = self.at;
        for step in &path.0 {
            let next = match (step, &node.value) {
                (Step::Field(name), Value::Map(_)) => node.get(name).map(|entry| (&entry.value, entry.name_at)),
                (Step::Index(index), Value::List(items)) => items.get(*index).map(|item| (item, item.at)),
                _ => None,
            };
            let Some((child, shown)) = next else { break };
            // A collection begins lines below its name; the name is what people look for.
            at = if matches!(child.value, Value::List(_) | Value::Map(_) | Value::Null) { shown } else { child.at };
            node = child;
        }
        at
    }
}

/// Reads all documents of a text. Empty documents are left out.
pub fn read(text: &str) -> (Vec<Node>, Vec<Fault>) {
    let mut reader = Reader::default();
    let mut options = serde_saphyr::granit_parser::Options::default();
    options.set_emit_comments(false);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match event {
            Ok(next) => next,
            Err(error) => {
                let mark = error.marker();
                let at = Spot { line: narrow(mark.line()), column: narrow(mark.col() + 1), width: 1 };
                reader.fault(at, format!("not valid YAML: {}", error.info()), Some("nothing after this place was read"));
                break;
            }
        };
        if reader.event(event, &span).is_err() {
            break;
        }
    }
    (reader.documents, reader.faults)
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn spot(span: &Span) -> Spot {
    let (start, end) = (span.start, span.end);
    let width = if start.line() == end.line() { end.col().saturating_sub(start.col()).max(1) } else { 1 };
    Spot { line: narrow(start.line()), column: narrow(start.col() + 1), width: narrow(width) }
}

/// Stands for the name of a field that is not a word; YAML text cannot hold it.
const NO_NAME: &str = "\0";

/// Reading cannot go on: a bound was hit, and said so.
struct Stop;

/// A collection that is still open.
struct Frame {
    at: Spot,
    anchor: usize,
    nodes: usize,
    content: Open,
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, name: Option<(String, Spot)> },
}

#[derive(Default)]
struct Reader {
    documents: Vec<Node>,
    faults: Vec<Fault>,
    stack: Vec<Frame>,
    /// Anchored nodes with the number of nodes in each.
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
}

impl Reader {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Stop> {
        let at = spot(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(text.into_owned(), style, tag.as_deref(), at);
                self.close(Node { value, at }, anchor, 1)
            }
            Event::SequenceStart(_, anchor, _) => self.open(at, anchor, Open::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.open(at, anchor, Open::Map { entries: Vec::new(), name: None }),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => self.alias(id, at),
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, tag: Option<&Tag>, at: Spot) -> Value {
        let as_string = match tag {
            None => style != ScalarStyle::Plain,
            Some(tag) if tag.is_yaml_core_schema_tag("str") => true,
            Some(tag) if tag.is_yaml_core_schema() => style != ScalarStyle::Plain,
            Some(tag) => {
                let help = "remove the tag; quotes make a string";
                self.fault(at, format!("the YAML tag {} means nothing here", tag.original()), Some(help));
                true
            }
        };
        match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" if !as_string => Value::Null,
            _ if as_string => Value::Text(text),
            _ => Value::Plain(text),
        }
    }

    fn open(&mut self, at: Spot, anchor: usize, content: Open) -> Result<(), Stop> {
        if self.stack.len() >= DEPTH_MAX {
            let help = Some("no setting lies that deep; nothing after this place was read".to_owned());
            self.faults.push(Fault { at, path: Path::root(), message: format!("nested more than {DEPTH_MAX} levels deep"), help });
            return Err(Stop);
        }
        self.stack.push(Frame { at, anchor, nodes: 1, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.content {
            Open::List(items) => Value::List(items),
            Open::Map { entries, .. } => Value::Map(merged(entries)),
        };
        self.close(Node { value, at: frame.at }, frame.anchor, frame.nodes)
    }

    fn alias(&mut self, id: usize, at: Spot) -> Result<(), Stop> {
        let Some((node, nodes)) = self.anchors.get(&id) else {
            self.fault(at, "an alias inside the node that it stands for".to_owned(), Some("write the value out"));
            return self.close(Node { value: Value::Null, at }, 0, 1);
        };
        let nodes = *nodes;
        if self.nodes.saturating_add(nodes) > NODES_MAX {
            return self.too_many(at);
        }
        let value = node.value.clone();
        self.close(Node { value, at }, 0, nodes)
    }

    fn too_many(&mut self, at: Spot) -> Result<(), Stop> {
        let message = format!("more than {NODES_MAX} values once aliases are expanded");
        self.fault(at, message, Some("write fewer aliases of aliases; nothing after this place was read"));
        Err(Stop)
    }

    /// A node is complete: it becomes a document, a list entry, a field's name or a field's value.
    fn close(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return self.too_many(node.at);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
        let Some(frame) = self.stack.last_mut() else {
            if node.value != Value::Null {
                self.documents.push(node);
            }
            return Ok(());
        };
        frame.nodes += nodes;
        match &mut frame.content {
            Open::List(items) => items.push(node),
            Open::Map { entries, name } => match name.take() {
                None => self.name(node),
                Some((name, _)) if name == NO_NAME => {}
                Some((name, name_at)) => match entries.iter().find(|entry| entry.name == name && name != "<<") {
                    None => entries.push(Entry { name, name_at, value: node }),
                    Some(first) => {
                        let help = format!("it is set on line {} already; remove one of the two", first.name_at.line);
                        let path = self.path().field(&name);
                        self.faults.push(Fault { at: name_at, path, message: format!("duplicate field \"{name}\""), help: Some(help) });
                    }
                },
            },
        }
        Ok(())
    }

    fn name(&mut self, node: Node) {
        let text = match node.value {
            Value::Plain(text) | Value::Text(text) => text,
            Value::Null => "null".to_owned(),
            Value::List(_) | Value::Map(_) => {
                self.fault(
                    node.at,
                    "a list or mapping cannot be the name of a field".to_owned(),
                    Some("a name is a word before the colon"),
                );
                NO_NAME.to_owned()
            }
        };
        if let Some(Frame { content: Open::Map { name, .. }, .. }) = self.stack.last_mut() {
            *name = Some((text, node.at));
        }
    }

    fn path(&self) -> Path {
        let step = |frame: &Frame| match &frame.content {
            Open::List(items) => Some(Step::Index(items.len())),
            Open::Map { name, .. } => name.as_ref().map(|(name, _)| Step::Field(name.clone())),
        };
        Path(self.stack.iter().filter_map(step).collect())
    }

    fn fault(&mut self, at: Spot, message: String, help: Option<&str>) {
        self.faults.push(Fault { at, path: self.path(), message, help: help.map(str::to_owned) });
    }
}

/// YAML 1.1 merge keys (`<<: *common`), which kube-scheduler's reader knows: fields of the mapping itself win.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if entries.iter().all(|entry| entry.name != "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.name == "<<");
    for merge in merges {
        let sources = match merge.value.value {
            Value::List(items) => items,
            _ => vec![merge.value],
        };
        for source in sources {
            let Value::Map(fields) = source.value else { continue };
            for field in fields {
                if own.iter().all(|entry| entry.name != field.name) {
                    own.push(field);
                }
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        read(text).1.iter().map(|fault| format!("{}:{} {} {}", fault.at.line, fault.at.column, fault.path, fault.message)).collect()
    }

    #[test]
    fn remembers_places() {
        let (documents, faults) = read("a: 1\nb:\n- x: on\n  y: 'on'\n---\n{\"c\": [null]}\n");
        assert_eq!(faults, []);
        let [first, second] = &documents[..] else { panic!("two documents, got {documents:?}") };
        let path = Path::root().field("b").index(0).field("y");
        assert_eq!(first.locate(&path), Spot { line: 4, column: 6, width: 4 });
        assert_eq!(first.locate(&path.field("absent")), Spot { line: 4, column: 6, width: 4 });
        assert_eq!(first.locate(&Path::root().field("b")), Spot { line: 2, column: 1, width: 1 });
        assert_eq!(second.locate(&Path::root().field("c")).line, 6);
    }

    #[test]
    fn every_duplicate_is_named_once() {
        let text = "a: 1\nb: {c: 1, c: 2}\na: 2\nd: [{e: 1, e: 2}]\n";
        let expected = ["2:11 b.c duplicate field \"c\"", "3:1 a duplicate field \"a\"", "4:12 d[0].e duplicate field \"e\""];
        assert_eq!(faults(text), expected);
    }

    #[test]
    fn merge_keys_fill_what_is_absent() {
        let (documents, faults) = read("base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\n");
        assert_eq!(faults, []);
        let Some(Entry { value: used, .. }) = documents[0].get("use") else { panic!("the field is there") };
        assert_eq!((used.text("a"), used.text("b"), used.get("<<")), (Some("1"), Some("3"), None));
    }

    #[test]
    fn bombs_end_early() {
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(faults(&deep(DEPTH_MAX)).is_empty());
        assert_eq!(faults(&deep(DEPTH_MAX + 1)), [format!("1:{}  nested more than 64 levels deep", DEPTH_MAX + 1)]);
        assert_eq!(faults(&deep(100_000)), ["1:256  not valid YAML: recursion limit exceeded"], "the parser's own bound");
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let alias = format!("*a{}", i - 1);
            laughs.push_str(&["a", &i.to_string(), ": &a", &i.to_string(), " [", &[alias.as_str(); 9].join(", "), "]\n"].concat());
        }
        assert!(faults(&laughs)[0].contains("more than 200000 values"), "{:?}", faults(&laughs));
        assert!(faults("a: &a [*a]\n")[0].contains("an alias inside"));
        assert!(faults("a: *nowhere\n")[0].contains("not valid YAML"));
        assert!(faults("a: [1,\nb: }\n")[0].contains("not valid YAML"));
    }
}
