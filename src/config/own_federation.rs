//! The section `federation` of `IsobarConfiguration`, as it is written. In: serde. Out: plain structs, everything optional.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Compute clusters beside the home cluster. Needs the rights of manifests/overlays/federated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Federation {
    /// Whether `ComputeCluster` objects are looked after. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What the home API server calls for logs, exec, attach and port-forward of pods on compute clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubelet_endpoint: Option<KubeletEndpoint>,
    /// Where logs are kept when their pods are gone. Without it none are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// Looking up for which platforms images are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
}

/// What the home API server calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct KubeletEndpoint {
    /// Address to listen on. Default 0.0.0.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_address: Option<String>,
    /// Port. Default 10260.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Address by which the home API server reaches us. Default: the environment's `POD_IP`; without either, virtual Nodes have no endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise_address: Option<String>,
    /// Csr: signed by the cluster's signer kubernetes.io/kubelet-serving, self-signed until it is there. `SelfSigned`: made at start. Default Csr.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Csr", "SelfSigned"]))]
    pub certificate: Option<String>,
}

/// Where logs are kept. Exactly one of `folder` and `s3`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Archive {
    /// A folder, for one on a claim: every replica needs the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// A bucket. Credentials come from the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, or a web identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// Logs are kept as long as their pod, and so much longer. Default 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration-go"))]
    pub keep_for: Option<String>,
    /// All logs together; those of pods that are gone longest make room. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// A longer log is cut, and says so. Default 268435456.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes_max: Option<u64>,
}

/// A bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct S3 {
    /// Its name.
    pub bucket: String,
    /// What all keys begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Where it is if not at AWS, as <https://minio.example:9000>; http is taken as meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Its region. Default: the environment's `AWS_REGION`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Looking up platforms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Images {
    /// Whether registries are asked; if not, images are taken to be made for the platforms of home. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<bool>,
    /// Registries, as host:port, that are asked by http.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_registries: Option<Vec<String>>,
}
