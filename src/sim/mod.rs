//! A cluster in memory. In: options and a seed. Out: an API server that a kube client or kubectl can talk to, a kubelet that runs what is bound, a line,
//! rights and faults that can be changed while it works.
//!
//! ```text
//! kube::Client  --in process-->  Link --> Permissions --> Faults --> ApiServer  <--watch, status--  Kubelet --> AuditSink
//! kubectl       --loopback TCP---^                                      ^---binding--- PinScheduler
//! ```

pub mod apiserver;
pub mod audit;
pub mod behaviour;
pub mod controllers;
pub mod faults;
pub mod federation;
pub mod kubeconfig;
pub mod kubelet;
pub mod link;
mod listener;
pub mod pin;
mod signal;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use kube::client::Body as KubeBody;
use tower::{BoxError, ServiceExt, service_fn};

use apiserver::{AccessPolicy, ApiServer, ApiServerOptions, Permissions};
use audit::AuditSink;
use faults::Faults;
use kubelet::{DeadNodes, Kubelet, KubeletOptions};
use link::Link;

/// What a simulated cluster is made of.
#[derive(Default)]
pub struct SimOptions {
    /// The API server's numbers.
    pub api_server: ApiServerOptions,
    /// Who may do what in reviews; what [`SimCluster::permissions`] says when absent.
    pub access: Option<Box<dyn AccessPolicy>>,
    /// The line to the server; up when absent.
    pub link: Option<Link>,
    /// What goes wrong; nothing when absent.
    pub faults: Option<Faults>,
}

/// A cluster in memory. Cheap to clone; all clones are the same cluster.
#[derive(Clone)]
pub struct SimCluster {
    server: Arc<ApiServer>,
    router: Router,
    link: Link,
    permissions: Permissions,
    faults: Faults,
    audit: AuditSink,
    dead: DeadNodes,
}

impl SimCluster {
    /// A cluster with the standing namespaces and nothing else.
    pub fn new(options: SimOptions) -> Self {
        let permissions = Permissions::default();
        let server = ApiServer::new(options.api_server, options.access.unwrap_or_else(|| Box::new(permissions.clone())));
        let router = server.router();
        Self {
            server,
            router,
            link: options.link.unwrap_or_default(),
            permissions,
            faults: options.faults.unwrap_or_default(),
            audit: AuditSink::default(),
            dead: DeadNodes::default(),
        }
    }

    /// The server, for audits and set-up beside the API.
    pub fn server(&self) -> &Arc<ApiServer> {
        &self.server
    }

    /// The HTTP side without faults.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The faults in force.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The line between [`SimCluster::client`]s and the server.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// What [`SimCluster::client`]s may do.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// What kubelets started.
    pub fn audit(&self) -> &AuditSink {
        &self.audit
    }

    /// Nodes whose kubelet does nothing any more.
    pub fn dead_nodes(&self) -> &DeadNodes {
        &self.dead
    }

    /// A client whose calls meet line, rights and faults. Has to be made inside a tokio runtime.
    pub fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = service_fn(move |request: Request<KubeBody>| cluster.clone().call(request.map(Body::new)));
        kube::Client::new(service, "default")
    }

    /// A client that no fault reaches: for the world around the thing under test.
    pub fn faultless_client(&self) -> kube::Client {
        let router = self.router.clone();
        let service = service_fn(move |request: Request<KubeBody>| router.clone().oneshot(request.map(Body::new)));
        kube::Client::new(service, "default")
    }

    /// A kubelet for all nodes, on a client that no fault reaches. Spawn its `run`.
    pub fn kubelet(&self, options: KubeletOptions) -> Kubelet {
        Kubelet::new(self.faultless_client(), self.server.clone(), self.audit.clone(), self.dead.clone(), options)
    }

    /// One request along the line, through rights and faults.
    pub async fn call(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let Self { link, permissions, faults, router, .. } = self;
        let onward = |request: Request<Body>| async move {
            let (verb, resource) = faults::describe(request.method(), request.uri());
            match permissions.refusal(verb, &resource) {
                Some(refusal) => Ok(refusal.into_response()),
                None => faults.around(request, |request| async move { Ok(router.oneshot(request).await?) }).await,
            }
        };
        link.around(request, onward).await
    }
}
