//! A connection whose credentials can be exchanged while others use it. In: clients, the newest counts from the next call on. Out: one [`Api`] for the life of
//! the cluster, so that a rotation stops nobody.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use kube::{Client, client::Body};
use tower::{BoxError, service_fn};

use crate::{
    federation::spec::CallLimits,
    kubernetes::{api::Api, limiter::TokenBucket},
    metrics::ApiMetrics,
};

/// Stands for no bound at all.
const UNLIMITED_PER_SECOND: f64 = 1e9;

/// There are no credentials to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no connection to the compute cluster: its credentials are missing or refused")]
pub struct NotConnected;

/// The exchangeable connection. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    current: Arc<ArcSwapOption<Client>>,
    limiter: Arc<TokenBucket>,
    api: Api,
}

impl Link {
    /// Without credentials yet. Has to be called inside a tokio runtime.
    pub fn new(cluster: &str, metrics: ApiMetrics) -> Self {
        let current: Arc<ArcSwapOption<Client>> = Arc::default();
        let onward = current.clone();
        let service = service_fn(move |request: http::Request<Body>| {
            let client = onward.load_full();
            async move {
                let client = client.ok_or(NotConnected)?;
                client.send(request).await.map_err(BoxError::from)
            }
        });
        let client = Client::new(service, "default");
        let limiter = Arc::new(TokenBucket::new(UNLIMITED_PER_SECOND, UNLIMITED_PER_SECOND));
        let api = Api::new(client, cluster, metrics).limited_by(limiter.clone());
        Self { current, limiter, api }
    }

    /// The connection for everybody, at the rate that the limits allow.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Uses other credentials from now on, or none.
    pub fn exchange(&self, client: Option<Client>) {
        self.current.store(client.map(Arc::new));
    }

    /// Whether there are any.
    pub fn is_set(&self) -> bool {
        self.current.load().is_some()
    }

    /// Takes up other limits.
    pub async fn limit(&self, limits: &CallLimits) {
        let per_second = if limits.per_second == 0 { UNLIMITED_PER_SECOND } else { f64::from(limits.per_second) };
        self.limiter.set(per_second, per_second.max(f64::from(limits.in_flight))).await;
    }
}
