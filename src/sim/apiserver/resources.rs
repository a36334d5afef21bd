//! Which resource types the server knows and how each behaves. In: the table below and types registered by code or by a
//! `CustomResourceDefinition`. Out: [`ResourceType`] records that routing, storage and discovery read.

use std::sync::Arc;

/// Index of a resource type's table in the store. Two views of one store (core and events.k8s.io events) share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub(crate) usize);

/// What is special about a type beyond plain storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Defaults, binding, graceful deletion, immutable spec.
    Pod,
    /// Status kept on create.
    Node,
    /// Phase and finalizer; deletion takes the content along.
    Namespace,
    /// Events, stored in the core/v1 form.
    EventCore,
    /// The events.k8s.io/v1 view of the same events.
    EventV1,
    /// Created by PUT as well.
    Lease,
    /// `stringData` folded into `data`.
    Secret,
    /// Cluster IPs given out.
    Service,
    /// What is decided about it is written through `/approval`.
    CertificateRequest,
    /// Read by pod admission.
    PriorityClass,
    /// Registers a type when created.
    CustomResourceDefinition,
    /// An object of a registered type.
    Custom,
    /// Stored as given.
    Plain,
    /// Answered, never stored: `TokenReview`, `SubjectAccessReview` and its siblings.
    Review,
}

/// One served resource type.
#[derive(Clone, Debug)]
pub struct ResourceType {
    /// API group, empty for core.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `Pod`.
    pub kind: String,
    /// Plural, as in paths.
    pub plural: String,
    /// Short names for kubectl.
    pub short_names: Vec<String>,
    /// Categories for kubectl, such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a `/status` subresource.
    pub has_status: bool,
    /// Whether `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
    /// What is special.
    pub behaviour: Behaviour,
    pub(crate) table: TableId,
}

impl ResourceType {
    /// A type as a `CustomResourceDefinition` would make it, to be registered by code.
    pub fn custom(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool, has_status: bool) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced,
            has_status,
            has_generation: true,
            behaviour: Behaviour::Custom,
            table: TableId(usize::MAX),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods` or `deployments.apps`, as messages name resources.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Pod` or `Deployment.apps`, as messages name kinds.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Whether PUT of a name that does not exist creates it.
    pub fn create_on_update(&self) -> bool {
        matches!(self.behaviour, Behaviour::Lease | Behaviour::EventCore | Behaviour::EventV1 | Behaviour::Service)
    }

    /// Whether PUT may leave `metadata.resourceVersion` out.
    pub fn unconditional_update(&self) -> bool {
        let without = matches!(
            self.plural.as_str(),
            "csidrivers" | "csistoragecapacities" | "volumeattachments" | "csinodes" | "poddisruptionbudgets" | "leases"
        );
        self.behaviour != Behaviour::Custom && !without
    }

    /// Whether DELETE answers with the deleted object instead of a Status.
    pub fn returns_deleted_object(&self) -> bool {
        let core = self.group.is_empty()
            && matches!(
                self.plural.as_str(),
                "pods" | "services" | "serviceaccounts" | "persistentvolumeclaims" | "persistentvolumes" | "namespaces"
            );
        core || self.group == "storage.k8s.io" || self.group == "resource.k8s.io"
    }
}

/// Flags of a row, kept short so that the table stays readable.
const NAMESPACED: u8 = 1;
const STATUS: u8 = 2;
const GENERATION: u8 = 4;
const ALL: u8 = 8;

type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, u8, Behaviour);

/// group, version, kind, plural, short names, flags, behaviour.
#[rustfmt::skip]
const BUILT_IN: &[Row] = &[
    ("", "v1", "ConfigMap", "configmaps", "cm", NAMESPACED, Behaviour::Plain),
    ("", "v1", "Event", "events", "ev", NAMESPACED, Behaviour::EventCore),
    ("", "v1", "LimitRange", "limitranges", "limits", NAMESPACED, Behaviour::Plain),
    ("", "v1", "Namespace", "namespaces", "ns", STATUS, Behaviour::Namespace),
    ("", "v1", "Node", "nodes", "no", STATUS, Behaviour::Node),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", NAMESPACED | STATUS, Behaviour::Plain),
    ("", "v1", "PersistentVolume", "persistentvolumes", "pv", STATUS, Behaviour::Plain),
    ("", "v1", "Pod", "pods", "po", NAMESPACED | STATUS | GENERATION | ALL, Behaviour::Pod),
    ("", "v1", "ReplicationController", "replicationcontrollers", "rc", NAMESPACED | STATUS | GENERATION | ALL, Behaviour::Plain),
    ("", "v1", "ResourceQuota", "resourcequotas", "quota", NAMESPACED | STATUS, Behaviour::Plain),
    ("", "v1", "Secret", "secrets", "", NAMESPACED, Behaviour::Secret),
    ("", "v1", "ServiceAccount", "serviceaccounts", "sa", NAMESPACED, Behaviour::Plain),
    ("", "v1", "Service", "services", "svc", NAMESPACED | STATUS | ALL, Behaviour::Service),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", "crd,crds", STATUS | GENERATION, Behaviour::CustomResourceDefinition),
    ("apps", "v1", "DaemonSet", "daemonsets", "ds", NAMESPACED | STATUS | GENERATION | ALL, Behaviour::Plain),
    ("apps", "v1", "Deployment", "deployments", "deploy", NAMESPACED | STATUS | GENERATION | ALL, Behaviour::Plain),
    ("apps", "v1", "ReplicaSet", "replicasets", "rs", NAMESPACED | STATUS | GENERATION | ALL, Behaviour::Plain),
    ("apps", "v1", "StatefulSet", "statefulsets", "sts", NAMESPACED | STATUS | GENERATION | ALL, Behaviour::Plain),
    ("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", "", 0, Behaviour::Review),
    ("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "", 0, Behaviour::Review),
    ("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", "", NAMESPACED, Behaviour::Review),
    ("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "", 0, Behaviour::Review),
    ("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", "", 0, Behaviour::Review),
    ("batch", "v1", "CronJob", "cronjobs", "cj", NAMESPACED | STATUS | GENERATION | ALL, Behaviour::Plain),
    ("batch", "v1", "Job", "jobs", "", NAMESPACED | STATUS | GENERATION | ALL, Behaviour::Plain),
    ("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", "csr", STATUS, Behaviour::CertificateRequest),
    ("coordination.k8s.io", "v1", "Lease", "leases", "", NAMESPACED, Behaviour::Lease),
    ("events.k8s.io", "v1", "Event", "events", "ev", NAMESPACED, Behaviour::EventV1),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "netpol", NAMESPACED | GENERATION, Behaviour::Plain),
    ("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "", 0, Behaviour::Plain),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", NAMESPACED | STATUS | GENERATION, Behaviour::Plain),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "", 0, Behaviour::Plain),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "", 0, Behaviour::Plain),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", "", NAMESPACED, Behaviour::Plain),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "", NAMESPACED, Behaviour::Plain),
    ("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", "", GENERATION, Behaviour::Plain),
    ("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", "", NAMESPACED | STATUS, Behaviour::Plain),
    ("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", "", GENERATION, Behaviour::Plain),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "pc", GENERATION, Behaviour::PriorityClass),
    ("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "", 0, Behaviour::Plain),
    ("storage.k8s.io", "v1", "CSINode", "csinodes", "", 0, Behaviour::Plain),
    ("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", "", NAMESPACED, Behaviour::Plain),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", "sc", 0, Behaviour::Plain),
    ("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "", STATUS, Behaviour::Plain),
];

/// All served types, sorted by group, version and plural: discovery answers in this order.
#[derive(Debug, Default)]
pub struct Registry {
    types: Vec<Arc<ResourceType>>,
    tables: usize,
}

impl Registry {
    /// The built-in types.
    pub fn built_in() -> Self {
        let mut registry = Self::default();
        for &(group, version, kind, plural, short, flags, behaviour) in BUILT_IN {
            let mut row = ResourceType::custom(group, version, kind, plural, flags & NAMESPACED != 0, flags & STATUS != 0);
            row.has_generation = flags & GENERATION != 0;
            row.behaviour = behaviour;
            row.short_names = short.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect();
            if flags & ALL != 0 {
                row.categories.push("all".into());
            }
            registry.add(row);
        }
        registry
    }

    /// Adds a type, or replaces the one of the same group, version and plural (its objects stay).
    pub fn add(&mut self, mut added: ResourceType) -> Arc<ResourceType> {
        let known = self.types.iter().find(|known| known.plural == added.plural && known.group == added.group);
        let core_events = (added.behaviour == Behaviour::EventV1).then(|| self.find("", "v1", "events")).flatten();
        added.table = known.or(core_events.as_ref()).map_or(TableId(self.tables), |known| known.table);
        self.tables = self.tables.max(added.table.0 + 1);
        self.types.retain(|known| !(known.plural == added.plural && known.group == added.group && known.version == added.version));
        let added = Arc::new(added);
        self.types.push(added.clone());
        self.types.sort_by(|a, b| (&a.group, &a.version, &a.plural).cmp(&(&b.group, &b.version, &b.plural)));
        added
    }

    /// The type served under a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<ResourceType>> {
        self.types.iter().find(|row| row.group == group && row.version == version && row.plural == plural).cloned()
    }

    /// Every type, in the order of discovery.
    pub fn types(&self) -> &[Arc<ResourceType>] {
        &self.types
    }

    /// How many tables the store needs.
    pub fn table_count(&self) -> usize {
        self.tables
    }
}
