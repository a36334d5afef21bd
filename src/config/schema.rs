//! The JSON Schema of a configuration file. In: the wire structs. Out: one schema for both kinds, as editors read it and as `shape.rs` checks files by it.
//!
//! `config/schema.json` is this, committed; a test holds it current. Arguments of in-tree plugins are typed through `if`/`then` on the plugin's name.

use std::sync::LazyLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

use crate::config::{own, wire, wire_args};

/// Plugins that take arguments, with the definition of each.
pub const ARGS: [(&str, &str); 8] = [
    ("DefaultPreemption", "DefaultPreemptionArgs"),
    ("DynamicResources", "DynamicResourcesArgs"),
    ("InterPodAffinity", "InterPodAffinityArgs"),
    ("NodeAffinity", "NodeAffinityArgs"),
    ("NodeResourcesBalancedAllocation", "NodeResourcesBalancedAllocationArgs"),
    ("NodeResourcesFit", "NodeResourcesFitArgs"),
    ("PodTopologySpread", "PodTopologySpreadArgs"),
    ("VolumeBinding", "VolumeBindingArgs"),
];

static SCHEMA: LazyLock<Json> = LazyLock::new(generate);

/// The schema of a document of either kind (JSON Schema 2020-12).
pub fn schema() -> &'static Json {
    &SCHEMA
}

/// The schema as text, as committed.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(schema()).unwrap_or_default();
    text.push('\n');
    text
}

fn generate() -> Json {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    generator.subschema_for::<wire::KubeSchedulerConfiguration>();
    generator.subschema_for::<own::IsobarConfiguration>();
    arguments(&mut generator);
    let mut definitions: Map<String, Json> = generator.take_definitions(true);
    for definition in definitions.values_mut() {
        strip_defaults(definition);
    }
    say_kind(&mut definitions, wire::KIND, wire::API_VERSION);
    say_kind(&mut definitions, own::KIND, own::API_VERSION);
    type_arguments(&mut definitions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Isobar: one document of each kind at most",
        "oneOf": [reference(wire::KIND), reference(own::KIND)],
        "$defs": definitions,
    })
}

fn arguments(generator: &mut SchemaGenerator) {
    generator.subschema_for::<wire_args::DefaultPreemptionArgs>();
    generator.subschema_for::<wire_args::DynamicResourcesArgs>();
    generator.subschema_for::<wire_args::InterPodAffinityArgs>();
    generator.subschema_for::<wire_args::NodeAffinityArgs>();
    generator.subschema_for::<wire_args::NodeResourcesBalancedAllocationArgs>();
    generator.subschema_for::<wire_args::NodeResourcesFitArgs>();
    generator.subschema_for::<wire_args::PodTopologySpreadArgs>();
    generator.subschema_for::<wire_args::VolumeBindingArgs>();
}

fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// The structs' defaults are "nothing said"; the real ones are in the descriptions.
fn strip_defaults(schema: &mut Json) {
    match schema {
        Json::Object(fields) => {
            fields.shift_remove("default");
            fields.values_mut().for_each(strip_defaults);
        }
        Json::Array(items) => items.iter_mut().for_each(strip_defaults),
        _ => {}
    }
}

fn say_kind(definitions: &mut Map<String, Json>, kind: &str, api_version: &str) {
    let Some(definition) = definitions.get_mut(kind) else { return };
    definition["properties"]["apiVersion"]["const"] = json!(api_version);
    definition["properties"]["kind"]["const"] = json!(kind);
    definition["required"] = json!(["apiVersion", "kind"]);
}

fn type_arguments(definitions: &mut Map<String, Json>) {
    let Some(definition) = definitions.get_mut("PluginConfig") else { return };
    let typed = ARGS.iter().map(|(name, args)| {
        json!({
            "if": { "properties": { "name": { "const": name } }, "required": ["name"] },
            "then": { "properties": { "args": reference(args) } },
        })
    });
    definition["allOf"] = typed.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_typed_and_defaults_are_not_claimed() {
        let schema = schema();
        for (_, args) in ARGS {
            assert!(schema["$defs"][args]["properties"].is_object(), "{args}");
        }
        assert!(!text().contains("\"default\":"));
        assert_eq!(schema["$defs"]["KubeSchedulerConfiguration"]["properties"]["kind"]["const"], json!(wire::KIND));
    }
}
