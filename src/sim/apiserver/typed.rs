//! Types of fields. In: an object of a type whose shape matters to schedulers. Out: whether it decodes as Kubernetes' own type. Everything else is stored
//! without a look at its shape.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use serde::Deserialize;
use serde_json::Value;

use super::resources::{Behaviour, ResourceType};

/// The decoder's complaint, if the object is not of the type. Costs some 100 microseconds for a pod in a release build.
pub(super) fn misfit(resource: &ResourceType, object: &Value) -> Option<String> {
    match resource.behaviour {
        Behaviour::Pod => complaint::<Pod>(object),
        Behaviour::Node => complaint::<Node>(object),
        Behaviour::Lease => complaint::<Lease>(object),
        Behaviour::EventCore => complaint::<Event>(object),
        _ => None,
    }
}

fn complaint<'a, T: Deserialize<'a>>(object: &'a Value) -> Option<String> {
    T::deserialize(object).err().map(|error| error.to_string())
}
