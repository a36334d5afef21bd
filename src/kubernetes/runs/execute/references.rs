//! What a home pod references, read live. In: the home pod. Out: the objects that travel with it, or what is missing.

use futures::future::try_join_all;
use serde_json::Value;

use super::{Executor, collection};
use crate::{
    federation::{
        facts::Decision,
        project::{Kind, Objects, Reference, Target, references},
    },
    kubernetes::runs::port::{Trouble, text},
};

impl Executor {
    /// The objects that a pod references; the inner error names what must be there and is not.
    pub(super) async fn referenced(&self, pod: &Value) -> Result<Result<Objects, String>, Trouble> {
        let namespace = text(pod, "/metadata/namespace");
        let read = references(pod).into_iter().map(async |reference| {
            let path = format!("{}/{}", collection(namespace, resource(reference.kind)), reference.name);
            Ok((self.home.get(path).await?, reference))
        });
        let mut objects = Objects::default();
        for (object, Reference { kind, name, optional }) in try_join_all(read).await? {
            match object {
                Some(object) => objects.insert(kind, name, object),
                None if optional => {}
                None => return Ok(Err(format!("{} {namespace}/{name} does not exist", resource(kind)))),
            }
        }
        Ok(Ok(objects))
    }

    /// Where a run goes, as the projection reads it.
    pub(super) fn target<'a>(&'a self, decision: &'a Decision) -> Target<'a> {
        Target { spec: &self.entry.spec, decision, home_cluster_uid: &self.entry.home_uid }
    }
}

fn resource(kind: Kind) -> &'static str {
    match kind {
        Kind::ConfigMap => "configmaps",
        Kind::Secret => "secrets",
        Kind::Claim => "persistentvolumeclaims",
    }
}
