//! `ImagePlatform`: no node on whose operating system and architecture one of the pod's images does not run. In: a class, what is known of its images. Out:
//! one verdict for all nodes of a platform.
//!
//! Not of kube-scheduler. It says something only while a compute cluster is known and nodes of more than one platform are present. While an image is being
//! looked up its pods are held back, at most some seconds; where that fails it is taken to run on the platforms of home.

use std::cell::Cell;

use fixedbitset::FixedBitSet;

use super::{cluster_fit::stays_home, sweep};
use crate::{
    model::{class::PodClass, node::NodeRecord},
    scheduler::{
        change::{Change, Changes},
        framework::{CompiledFilter, FilterPlugin, NodeRule, Plugin, Reads, Reason, Refusal},
        nodes::Nodes,
        platforms::{self, Fit, Platform},
    },
};

/// See the module.
pub struct ImagePlatform;

impl Plugin for ImagePlatform {
    fn name(&self) -> &'static str {
        "ImagePlatform"
    }

    fn filter(&self) -> Option<&dyn FilterPlugin> {
        Some(self)
    }

    fn curing_changes(&self) -> Changes {
        Changes::PLATFORMS | Changes::CLUSTER | Changes::NODE_ADD | Changes::NODE_LABEL | Changes::NODE_DELETE
    }

    fn cures(&self, class: &PodClass, change: &Change<'_>, _nodes: &Nodes) -> bool {
        match change {
            Change::Platforms(image) => class.container_images().contains(image),
            _ => true,
        }
    }
}

/// Whether the platforms of the class's images matter: it may meet more than one.
pub fn matters(class: &PodClass, nodes: &Nodes) -> bool {
    nodes.clusters.any()
        && !class.container_images().is_empty()
        && nodes.platforms.present(false).nth(1).is_some()
        && (nodes.platforms.present(true).nth(1).is_some() || !stays_home(class, nodes))
}

impl FilterPlugin for ImagePlatform {
    fn compile(&self, class: &PodClass, nodes: &Nodes) -> CompiledFilter {
        // As long as there are clusters it watches for a second platform.
        if !nodes.clusters.any() || class.container_images().is_empty() {
            return CompiledFilter::Skip;
        }
        let versions = Cell::new((nodes.platforms.version(), nodes.clusters.policy()));
        CompiledFilter::Rule(Box::new(Platforms { class: class.clone(), refused: refused(class, nodes), versions }))
    }
}

struct Platforms {
    class: PodClass,
    /// Platforms of present nodes that are refused, with the reason.
    refused: Vec<(Platform, Reason)>,
    versions: Cell<(u64, u64)>,
}

fn refused(class: &PodClass, nodes: &Nodes) -> Vec<(Platform, Reason)> {
    if !matters(class, nodes) {
        return Vec::new();
    }
    let worst = |platform: Platform| {
        let fits = class.container_images().iter().map(|image| (nodes.platforms.fit(*image, platform, &nodes.symbols), *image));
        fits.max_by_key(|(fit, _)| *fit)
    };
    let mut refused = Vec::new();
    for platform in nodes.platforms.present(false) {
        let Some((fit, image)) = worst(platform) else { continue };
        let (image, name) = (nodes.symbols.text(image), platforms::text(platform, &nodes.symbols));
        let reason = match fit {
            Fit::Runs => continue,
            Fit::Unknown => format!("node(s) had a platform ({name}) of which it is not known whether image {image:?} has it"),
            Fit::Lacks => format!("node(s) had no matching platform of image {image:?} ({name})"),
            Fit::Awaited => format!("node(s) held back until the platforms of image {image:?} are known"),
        };
        refused.push((platform, reason.into()));
    }
    // An image that is being looked up holds its pod back everywhere.
    refused.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    refused
}

impl Platforms {
    fn reason(&self, node: &NodeRecord) -> Option<&Reason> {
        let platform = (node.operating_system, node.architecture);
        self.refused.iter().find(|(refused, _)| *refused == platform).map(|(_, reason)| reason)
    }
}

impl NodeRule for Platforms {
    fn reads(&self) -> Reads {
        Reads::Object
    }

    fn admits(&self, node: &NodeRecord, _nodes: &Nodes) -> bool {
        self.reason(node).is_none()
    }

    fn refuses(&self, node: &NodeRecord, _nodes: &Nodes) -> Option<Refusal> {
        self.reason(node).map(|reason| Refusal::unresolvable(reason.clone()))
    }

    fn keep_admitted(&self, nodes: &Nodes, set: &mut FixedBitSet) {
        if !self.refused.is_empty() {
            sweep::keep(nodes, set, |node| self.reason(node).is_none());
        }
    }

    fn outdated(&self, nodes: &Nodes) -> bool {
        let versions = (nodes.platforms.version(), nodes.clusters.policy());
        if self.versions.get() == versions {
            return false;
        }
        let same = refused(&self.class, nodes) == self.refused;
        if same {
            self.versions.set(versions);
        }
        !same
    }
}
