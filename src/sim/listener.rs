//! The cluster on a socket. In: a loopback listener. Out: plain HTTP connections, each served by the cluster until it closes.

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

use super::SimCluster;

impl SimCluster {
    /// Serves connections until the listener fails; drop the future to stop. Faults that refuse a connection close it without an answer.
    pub async fn serve(&self, listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            let cluster = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| cluster.clone().call(request.map(Body::new)));
                let served = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection of the in-memory API server ended");
                }
            });
        }
    }
}
