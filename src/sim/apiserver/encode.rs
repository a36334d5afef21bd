//! Forms of objects. In: a stored object, its type and the wanted form. Out: the bytes of the object, of a list item, of a watch line.

use bytes::Bytes;
use serde_json::{Value, json};

use super::events::to_events_v1;
use super::request::{Form, RowObject};
use super::resources::{Behaviour, ResourceType};
use super::store::Stored;
use super::tables;

/// How one request wants to see objects of one type.
#[derive(Clone, Copy, Debug)]
pub struct Encoder<'a> {
    /// The type as the path names it.
    pub resource: &'a ResourceType,
    /// The form as the Accept header names it.
    pub form: Form,
    /// Seconds since 1970, for ages in tables.
    pub now_seconds: i64,
}

impl Encoder<'_> {
    /// The stored object as the path's API group shows it.
    fn native(&self, stored: &Stored) -> Bytes {
        if self.resource.behaviour == Behaviour::EventV1 {
            let convert = || Bytes::from(to_events_v1(&stored.value()).to_string());
            return stored.other_view.get_or_init(convert).clone();
        }
        stored.json().clone()
    }

    /// The object as a value, as the path's API group shows it.
    pub fn value(&self, stored: &Stored) -> Value {
        if self.resource.behaviour == Behaviour::EventV1 { to_events_v1(&stored.value()) } else { stored.value() }
    }

    /// The whole object in the wanted form.
    pub fn object(&self, stored: &Stored) -> Bytes {
        match self.form {
            Form::Object => self.native(stored),
            Form::Metadata => Bytes::from(metadata_only(&stored.value()).to_string()),
            Form::Table(row_object) => Bytes::from(self.table_of_one(stored, row_object, true).to_string()),
        }
    }

    /// One line of a watch stream. `with_columns` is set for the first line of a table watch.
    pub fn watch_line(&self, kind: &str, stored: &Stored, with_columns: bool) -> Bytes {
        let object = match self.form {
            Form::Table(row_object) => Bytes::from(self.table_of_one(stored, row_object, with_columns).to_string()),
            _ => self.object(stored),
        };
        let mut line = Vec::with_capacity(object.len() + 40);
        line.extend_from_slice(b"{\"type\":\"");
        line.extend_from_slice(kind.as_bytes());
        line.extend_from_slice(b"\",\"object\":");
        line.extend_from_slice(&object);
        line.extend_from_slice(b"}\n");
        Bytes::from(line)
    }

    /// A list of objects with its metadata.
    pub fn list(&self, objects: &[&Stored], metadata: &Value) -> Bytes {
        match self.form {
            Form::Table(row_object) => Bytes::from(self.table(objects, row_object, metadata, true).to_string()),
            Form::Metadata => {
                let items: Vec<Value> = objects.iter().map(|stored| metadata_only(&stored.value())).collect();
                let list =
                    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items});
                Bytes::from(list.to_string())
            }
            Form::Object => self.object_list(objects, metadata),
        }
    }

    fn object_list(&self, objects: &[&Stored], metadata: &Value) -> Bytes {
        let length: usize = objects.iter().map(|stored| stored.json().len() + 1).sum();
        let mut list = Vec::with_capacity(length + 200);
        let head = format!(
            "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            self.resource.kind,
            self.resource.api_version()
        );
        list.extend_from_slice(head.as_bytes());
        for (at, stored) in objects.iter().enumerate() {
            if at > 0 {
                list.push(b',');
            }
            self.list_item(stored, &mut list);
        }
        list.extend_from_slice(b"]}\n");
        Bytes::from(list)
    }

    /// Built-in types leave kind and apiVersion out of items, as Go's typed lists do; custom resources keep them.
    fn list_item(&self, stored: &Stored, list: &mut Vec<u8>) {
        match self.resource.behaviour {
            Behaviour::Custom => list.extend_from_slice(stored.json()),
            Behaviour::EventV1 => {
                let mut item = self.value(stored);
                if let Some(fields) = item.as_object_mut() {
                    fields.shift_remove("kind");
                    fields.shift_remove("apiVersion");
                }
                list.extend_from_slice(item.to_string().as_bytes());
            }
            _ => match stored.json_tail() {
                Some(tail) => {
                    list.push(b'{');
                    list.extend_from_slice(tail);
                }
                None => list.extend_from_slice(stored.json()),
            },
        }
    }

    fn table_of_one(&self, stored: &Stored, row_object: RowObject, with_columns: bool) -> Value {
        let metadata = json!({"resourceVersion": stored.resource_version.to_string()});
        self.table(&[stored], row_object, &metadata, with_columns)
    }

    fn table(&self, objects: &[&Stored], row_object: RowObject, metadata: &Value, with_columns: bool) -> Value {
        let printer = tables::printer(self.resource);
        let rows: Vec<Value> = objects
            .iter()
            .map(|stored| {
                let value = stored.value();
                let cells = (printer.cells)(&value, self.now_seconds);
                let object = match row_object {
                    RowObject::None => Value::Null,
                    RowObject::Metadata => metadata_only(&value),
                    RowObject::Object => self.value(stored),
                };
                json!({"cells": cells, "object": object})
            })
            .collect();
        let columns = if with_columns { tables::columns(&printer) } else { Value::Null };
        let columns = if columns.is_null() { json!([]) } else { columns };
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
    }
}

fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
