//! Volumes of the plugins that Kubernetes once had built in, and what stands for them at the CSI drivers that replaced them: the names of a plugin, the
//! handle of a volume, the topology of a `PersistentVolume`.
//!
//! Source: `csi-translation-lib` v0.37.1, as far as scheduling reads of it; `isCSIMigrationOn` of kube-scheduler v1.37.1.

use super::{
    affinity::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
    labels::LabelFacts,
};

/// The zone label.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The region label.
pub const REGION: &str = "topology.kubernetes.io/region";
/// The zone label of old.
pub const ZONE_BETA: &str = "failure-domain.beta.kubernetes.io/zone";
/// The region label of old.
pub const REGION_BETA: &str = "failure-domain.beta.kubernetes.io/region";
/// Between the zones of one volume in a label.
pub const ZONES_DELIMITER: &str = "__";

/// Plugins for which a translation exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InTreePlugin {
    /// `awsElasticBlockStore`.
    AwsEbs,
    /// `gcePersistentDisk`.
    GcePd,
    /// `cinder`.
    Cinder,
    /// `azureDisk`.
    AzureDisk,
    /// `azureFile`.
    AzureFile,
    /// `vsphereVolume`.
    Vsphere,
    /// `portworxVolume`.
    Portworx,
}

impl InTreePlugin {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::AwsEbs, Self::GcePd, Self::Cinder, Self::AzureDisk, Self::AzureFile, Self::Vsphere, Self::Portworx];

    /// The name that classes and nodes use.
    pub fn name(self) -> &'static str {
        match self {
            Self::AwsEbs => "kubernetes.io/aws-ebs",
            Self::GcePd => "kubernetes.io/gce-pd",
            Self::Cinder => "kubernetes.io/cinder",
            Self::AzureDisk => "kubernetes.io/azure-disk",
            Self::AzureFile => "kubernetes.io/azure-file",
            Self::Vsphere => "kubernetes.io/vsphere-volume",
            Self::Portworx => "kubernetes.io/portworx-volume",
        }
    }

    /// The CSI driver that replaced it.
    pub fn driver(self) -> &'static str {
        match self {
            Self::AwsEbs => "ebs.csi.aws.com",
            Self::GcePd => "pd.csi.storage.gke.io",
            Self::Cinder => "cinder.csi.openstack.org",
            Self::AzureDisk => "disk.csi.azure.com",
            Self::AzureFile => "file.csi.azure.com",
            Self::Vsphere => "csi.vsphere.vmware.com",
            Self::Portworx => "pxd.portworx.com",
        }
    }

    /// The plugin of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }

    /// Whether the scheduler takes its volumes for those of the driver.
    pub fn is_migrated(self) -> bool {
        !matches!(self, Self::AzureFile | Self::Vsphere)
    }

    /// The label that the driver calls the zone of a node by, where the topology of volumes is translated.
    fn topology_key(self) -> Option<&'static str> {
        match self {
            Self::AwsEbs => Some("topology.ebs.csi.aws.com/zone"),
            Self::GcePd => Some("topology.gke.io/zone"),
            Self::Cinder => Some("topology.cinder.csi.openstack.org/zone"),
            Self::AzureDisk | Self::AzureFile | Self::Vsphere | Self::Portworx => None,
        }
    }

    /// The driver's handle of a volume that a pod names itself; `None` if there is none.
    pub fn inline_handle(self, id: &str) -> Option<Box<str>> {
        match self {
            Self::GcePd => Some(gce_handle("zones", "UNSPECIFIED", id)),
            _ => self.handle(id, &Vec::new()),
        }
    }

    /// The driver's handle of a `PersistentVolume` with these labels; `None` if it cannot be told.
    pub fn handle(self, id: &str, labels: &LabelFacts) -> Option<Box<str>> {
        match self {
            Self::AwsEbs => ebs_id(id).map(Box::from),
            Self::GcePd => {
                let zones = [ZONE_BETA, ZONE].into_iter().find_map(|key| value(labels, key).filter(|zones| !zones.is_empty()));
                let zones: Vec<&str> = zones.into_iter().flat_map(|zones| zones.split(ZONES_DELIMITER)).collect();
                match zones.as_slice() {
                    [] => Some(gce_handle("zones", "UNSPECIFIED", id)),
                    [zone] => Some(gce_handle("zones", zone, id)),
                    many => Some(gce_handle("regions", &gce_region(many)?, id)),
                }
            }
            _ => Some(id.into()),
        }
    }

    /// Where a volume can be reached from, in the words of the driver. Labels of the volume count if its affinity does not speak of zones.
    pub fn translated(self, affinity: Option<&NodeSelector>, labels: &LabelFacts) -> Option<NodeSelector> {
        let mut selector = affinity.cloned().unwrap_or_default();
        let Some(driver_key) = self.topology_key() else { return affinity.cloned() };
        let has_key = |key: &str| requirements(&selector).any(|requirement| &*requirement.key == key);
        let beta = !has_key(ZONE) && (has_key(ZONE_BETA) || (value(labels, ZONE).is_none() && value(labels, ZONE_BETA).is_some()));
        let (zone, region) = if beta { (ZONE_BETA, REGION_BETA) } else { (ZONE, REGION) };
        if requirements(&selector).any(|requirement| &*requirement.key == zone && !requirement.values.is_empty()) {
            rename(&mut selector, zone, driver_key);
        } else if let Some(zones) = value(labels, zone) {
            add(&mut selector, driver_key, zones);
        }
        let has_region = requirements(&selector).any(|requirement| &*requirement.key == region && !requirement.values.is_empty());
        if beta && has_region {
            rename(&mut selector, region, REGION);
        }
        (affinity.is_some() || !selector.terms.is_empty()).then_some(selector)
    }
}

fn value<'a>(labels: &'a LabelFacts, key: &str) -> Option<&'a str> {
    labels.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
}

fn requirements(selector: &NodeSelector) -> impl Iterator<Item = &NodeSelectorRequirement> {
    selector.terms.iter().flat_map(|term| &term.match_expressions)
}

fn rename(selector: &mut NodeSelector, from: &str, to: &str) {
    let requirements = selector.terms.iter_mut().flat_map(|term| &mut term.match_expressions);
    requirements.filter(|requirement| &*requirement.key == from).for_each(|requirement| requirement.key = to.into());
}

/// Adds the zones of a label to every term, or makes one.
fn add(selector: &mut NodeSelector, key: &str, zones: &str) {
    let mut values: Vec<Box<str>> = zones.split(ZONES_DELIMITER).map(str::trim).filter(|zone| !zone.is_empty()).map(Box::from).collect();
    values.sort_unstable();
    values.dedup();
    if values.is_empty() {
        return;
    }
    if selector.terms.is_empty() {
        selector.terms.push(NodeSelectorTerm::default());
    }
    for term in &mut selector.terms {
        term.match_expressions.push(NodeSelectorRequirement { key: key.into(), operator: "In".into(), values: values.clone() });
    }
}

fn gce_handle(kind: &str, place: &str, name: &str) -> Box<str> {
    format!("projects/UNSPECIFIED/{kind}/{place}/disks/{name}").into()
}

/// `us-central1` of `us-central1-a` and `us-central1-b`; `None` unless all zones agree.
fn gce_region(zones: &[&str]) -> Option<String> {
    let region = |zone: &str| match zone.split('-').collect::<Vec<_>>().as_slice() {
        [locale, region, _] => Some(format!("{locale}-{region}")),
        _ => None,
    };
    let first = region(zones.first()?)?;
    zones.iter().all(|zone| region(zone).as_ref() == Some(&first)).then_some(first)
}

/// The bare id of `aws://zone/vol-id`; any other text is one already.
fn ebs_id(id: &str) -> Option<&str> {
    let Some(rest) = id.strip_prefix("aws://") else { return Some(id) };
    let path = rest.split_once('/').map_or("", |(_, path)| path).trim_matches('/');
    (path.starts_with("vol-") && !path.contains('/')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> LabelFacts {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn handles_are_the_drivers() {
        let unspecified = "projects/UNSPECIFIED/zones/UNSPECIFIED/disks/d";
        for (plugin, id, on, want) in [
            (InTreePlugin::AwsEbs, "vol-1", &[][..], Some("vol-1")),
            (InTreePlugin::AwsEbs, "aws://us-east-1a/vol-1", &[], Some("vol-1")),
            (InTreePlugin::AwsEbs, "aws:///vol-1", &[], Some("vol-1")),
            (InTreePlugin::AwsEbs, "aws://us-east-1a/disk", &[], None),
            (InTreePlugin::AwsEbs, "aws://vol-1", &[], None),
            (InTreePlugin::GcePd, "d", &[], Some(unspecified)),
            (InTreePlugin::GcePd, "d", &[(ZONE, "a-b-c")], Some("projects/UNSPECIFIED/zones/a-b-c/disks/d")),
            (InTreePlugin::GcePd, "d", &[(ZONE, "a-b-c"), (ZONE_BETA, "")], Some("projects/UNSPECIFIED/zones/a-b-c/disks/d")),
            (InTreePlugin::GcePd, "d", &[(ZONE_BETA, "a-b-c__a-b-d")], Some("projects/UNSPECIFIED/regions/a-b/disks/d")),
            (InTreePlugin::GcePd, "d", &[(ZONE, "a-b-c__a-x-d")], None),
            (InTreePlugin::GcePd, "d", &[(ZONE, "a-b-c__zone")], None),
            (InTreePlugin::Portworx, "p", &[(ZONE, "z")], Some("p")),
        ] {
            assert_eq!(plugin.handle(id, &labels(on)).as_deref(), want, "{plugin:?} {id} {on:?}");
        }
        assert_eq!(InTreePlugin::GcePd.inline_handle("d").as_deref(), Some(unspecified));
    }

    #[test]
    fn topology_is_renamed_or_taken_from_labels() {
        let selector = |key: &str, values: &[&str]| NodeSelector {
            terms: vec![NodeSelectorTerm {
                match_expressions: vec![NodeSelectorRequirement {
                    key: key.into(),
                    operator: "In".into(),
                    values: values.iter().map(|value| (*value).into()).collect(),
                }],
                ..NodeSelectorTerm::default()
            }],
        };
        let gce = "topology.gke.io/zone";
        for (from, on, want) in [
            (None, &[][..], None),
            (Some(selector("disk", &["a"])), &[], Some(selector("disk", &["a"]))),
            (Some(selector(ZONE, &["a"])), &[(ZONE, "b")], Some(selector(gce, &["a"]))),
            (Some(selector(ZONE_BETA, &["a"])), &[(ZONE, "b")], Some(selector(gce, &["a"]))),
            (Some(selector(REGION_BETA, &["r"])), &[(REGION_BETA, "r")], Some(selector(REGION_BETA, &["r"]))),
            (None, &[(ZONE, "b__a")], Some(selector(gce, &["a", "b"]))),
            (None, &[(ZONE_BETA, "b")], Some(selector(gce, &["b"]))),
            (None, &[(ZONE, "__")], None),
        ] {
            assert_eq!(InTreePlugin::GcePd.translated(from.as_ref(), &labels(on)), want, "{from:?} {on:?}");
        }
        let zone = selector(ZONE, &["a"]);
        assert_eq!(InTreePlugin::AzureDisk.translated(Some(&zone), &labels(&[])), Some(zone));
    }
}
