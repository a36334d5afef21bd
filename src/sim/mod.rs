//! A cluster in memory. In: options and a seed. Out: an API server that a kube client or kubectl can talk to, a kubelet that runs what is bound, faults
//! on demand.
//!
//! ```text
//! kube::Client  --in process-->  Faults  -->  ApiServer  <--watch, status--  Kubelet
//! kubectl       --loopback TCP------------------^
//! ```

pub mod apiserver;
pub mod faults;
pub mod kubeconfig;
pub mod kubelet;
mod listener;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use kube::client::Body as KubeBody;
use tower::{BoxError, ServiceExt, service_fn};

use apiserver::{AccessPolicy, AllowAll, ApiServer, ApiServerOptions};
use faults::Faults;
use kubelet::{Kubelet, KubeletOptions};

/// What a simulated cluster is made of.
#[derive(Default)]
pub struct SimOptions {
    /// The API server's numbers.
    pub api_server: ApiServerOptions,
    /// Who may do what in reviews; everyone everything when absent.
    pub access: Option<Box<dyn AccessPolicy>>,
    /// What goes wrong; nothing when absent.
    pub faults: Option<Faults>,
}

/// A cluster in memory. Cheap to clone; all clones are the same cluster.
#[derive(Clone)]
pub struct SimCluster {
    server: Arc<ApiServer>,
    router: Router,
    faults: Faults,
}

impl SimCluster {
    /// A cluster with the standing namespaces and nothing else.
    pub fn new(options: SimOptions) -> Self {
        let server = ApiServer::new(options.api_server, options.access.unwrap_or_else(|| Box::new(AllowAll)));
        let router = server.router();
        Self { server, router, faults: options.faults.unwrap_or_default() }
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

    /// A client whose calls meet the faults. Has to be made inside a tokio runtime.
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
        Kubelet::new(self.faultless_client(), self.server.clock(), options)
    }

    /// One request through the faults.
    pub async fn call(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        self.faults.around(request, |request| async move { Ok(self.router.oneshot(request).await?) }).await
    }
}
