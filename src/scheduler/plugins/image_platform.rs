//! `ImagePlatform`: no node on whose operating system and architecture one of the pod's images does not run. In: a class, what is known of its images. Out:
//! one verdict for all nodes of a platform.
//!
//! Not of kube-scheduler. It says something only while a compute cluster is known and there are other platforms than the one of home. While an image is being
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

/// Whether the platforms of the class's images matter: it may meet another than the one of home.
pub fn matters(class: &PodClass, nodes: &Nodes) -> bool {
    let is_one = |home_only| nodes.platforms.present(home_only).take(2).count() == 1;
    nodes.clusters.any() && !class.container_images().is_empty() && !(is_one(true) && (is_one(false) || stays_home(class, nodes)))
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
    refused.sort_unstable_by_key(|(platform, _)| *platform);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            cluster::ClusterFacts, ids::ClusterId, image, node::NodeFacts, placement::TravelFacts, pod::PodSpecFacts, time::Timestamp,
        },
        scheduler::plugins::fixtures::{World, node, pod},
    };

    fn on(cluster: u16, name: &str, architecture: &str) -> NodeFacts {
        NodeFacts { cluster: ClusterId(cluster), architecture: architecture.into(), operating_system: "linux".into(), ..node(name) }
    }

    fn world(nodes: &[(u16, &str)]) -> World {
        let mut world = World::new(nodes.iter().enumerate().map(|(at, (cluster, arch))| on(*cluster, &format!("n{at}"), arch)));
        world.cluster(ClusterFacts { id: ClusterId(1), name: "cloud".into(), ..ClusterFacts::default() });
        world
    }

    fn images(names: &[&str]) -> PodSpecFacts {
        PodSpecFacts { images: names.iter().map(|name| Box::from(*name)).collect(), ..pod(&[]) }
    }

    fn tell(world: &mut World, image: &str, platforms: image::Platforms) {
        let sym = world.nodes.symbols.intern(image);
        world.nodes.platforms.ask(Timestamp(0), &[sym]);
        world.nodes.platforms.told(Timestamp(1), sym, platforms);
    }

    fn known(list: &[&str]) -> image::Platforms {
        image::Platforms::Known(list.iter().map(|name| Box::from(*name)).collect())
    }

    #[test]
    fn all_images_must_run() {
        let mut world = world(&[(0, "amd64"), (1, "arm64")]);
        tell(&mut world, "both:1", known(&["linux/amd64", "linux/arm64"]));
        tell(&mut world, "old:1", known(&["linux/amd64"]));
        tell(&mut world, "win:1", known(&["windows/amd64"]));
        let lacks = "!node(s) had no matching platform of image";
        assert_eq!(world.ask("ImagePlatform", &images(&["both:1"])), ["ok", "ok"]);
        assert_eq!(
            world.ask("ImagePlatform", &images(&["both:1", "old:1"])),
            ["ok".to_owned(), format!("{lacks} \"old:1\" (linux/arm64)")]
        );
        let nowhere = ["linux/amd64", "linux/arm64"].map(|platform| format!("{lacks} \"win:1\" ({platform})"));
        assert_eq!(world.ask("ImagePlatform", &images(&["win:1"])), nowhere);
        tell(&mut world, "both:1", image::Platforms::Lacks("linux/arm64".into()));
        assert_eq!(world.ask("ImagePlatform", &images(&["both:1"])), ["ok".to_owned(), format!("{lacks} \"both:1\" (linux/arm64)")]);
        let volume = TravelFacts { image_volumes: 1, ..TravelFacts::default() };
        let spec = PodSpecFacts { travel: Some(Box::new(volume)), ..images(&["old:1", "win:1"]) };
        assert_eq!(world.ask("ImagePlatform", &spec)[0], "ok", "an image that is a volume has no platform");
    }

    #[test]
    fn held_back_until_known_then_as_at_home() {
        let mut world = world(&[(0, "amd64"), (1, "arm64"), (1, "amd64")]);
        let held = "!node(s) held back until the platforms of image \"x:1\" are known";
        assert_eq!(world.ask("ImagePlatform", &images(&["x:1"])), [held; 3]);
        let sym = world.nodes.symbols.intern("x:1");
        let asked = world.nodes.platforms.ask(Timestamp(0), &[sym]);
        assert_eq!((asked, world.nodes.platforms.ask(Timestamp(0), &[sym])), (vec![sym], vec![]), "once");
        let due = world.nodes.platforms.next_wake().expect("an answer is awaited");
        assert_eq!(world.nodes.platforms.take_overdue(due), [sym]);
        let unknown = "!node(s) had a platform (linux/arm64) of which it is not known whether image \"x:1\" has it";
        assert_eq!(world.ask("ImagePlatform", &images(&["x:1"])), ["ok", unknown, "ok"]);
        assert!(!world.nodes.platforms.told(due, sym, image::Platforms::Unknown("401".into())));
        assert!(world.nodes.platforms.told(due, sym, known(&["linux/arm64"])));
    }

    #[test]
    fn only_where_it_can_matter() {
        let spec = images(&["x:1"]);
        let mut one = world(&[(0, "amd64"), (1, "amd64")]);
        let class = one.class(&spec);
        let rule = Platforms {
            refused: refused(&class, &one.nodes),
            versions: Cell::new((one.nodes.platforms.version(), one.nodes.clusters.policy())),
            class,
        };
        assert_eq!(one.ask_rule(&rule), ["ok", "ok"], "one platform");
        one.add(&on(1, "n9", "arm64"));
        assert!(rule.outdated(&one.nodes), "a second one");
        let homely = PodSpecFacts {
            travel: Some(Box::new(TravelFacts { placement: Some("home".into()), ..TravelFacts::default() })),
            ..images(&["x:1"])
        };
        assert_eq!(one.ask("ImagePlatform", &homely), ["ok"; 3], "stays at home, where there is one platform");
        let mut none = World::new([on(0, "a", "amd64"), on(0, "b", "arm64")]);
        assert_eq!(none.ask("ImagePlatform", &spec), ["skip"], "no compute cluster: as upstream");
    }
}
