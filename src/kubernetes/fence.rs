//! The last look before bytes leave: a request that may only be sent while we lead carries its permission with it, and its body refuses to be written
//! without.
//!
//! Between the decision to send and the sending there may be the set-up of a connection, and in the middle of that the process may be stopped and
//! continued after its lease. hyper writes head and body of a small request together, after it has asked the body; so the answer here is the last word.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use kube::client::Body;
use tower::BoxError;

use super::leadership::Permission;

/// A request body with a condition.
pub struct FencedBody {
    body: Body,
    permission: Option<Permission>,
}

/// The permission was withdrawn on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sent: the lease ran out before the request could be written")]
pub struct NotPermitted;

/// Takes the permission out of a request's extensions and puts it around its body.
pub fn fenced(request: Request<Body>) -> Request<FencedBody> {
    let permission = request.extensions().get::<Permission>().cloned();
    request.map(|body| FencedBody { body, permission })
}

impl http_body::Body for FencedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.permission.as_ref().is_some_and(|permission| !permission.granted()) {
            return Poll::Ready(Some(Err(NotPermitted.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{BodyExt, Full};
    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::{
        client::legacy::{Client, connect::HttpConnector},
        rt::{TokioExecutor, TokioIo},
    };
    use tokio::{net::TcpListener, sync::watch, time::sleep};

    use super::*;
    use crate::kubernetes::leadership::Leadership;

    /// A server on loopback that remembers the bodies of whole requests.
    async fn server() -> (std::net::SocketAddr, watch::Receiver<Vec<Bytes>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, receiver) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(|request: Request<Incoming>| {
                let seen = seen.clone();
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    seen.send_modify(|bodies| bodies.push(body));
                    Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::new())))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
        (address, receiver)
    }

    #[tokio::test]
    async fn nothing_is_written_once_the_permission_is_gone() {
        for (leadership, want) in [(Leadership::Unlimited, 1), (Leadership::Standby, 0)] {
            let (address, seen) = server().await;
            let client = Client::builder(TokioExecutor::new()).build::<_, FencedBody>(HttpConnector::new());
            let (_keep, leads) = watch::channel(leadership);
            let mut request = Request::post(format!("http://{address}/")).body(Body::from(b"binding".to_vec())).unwrap();
            request.extensions_mut().insert(Permission::new(leads));
            let answer = client.request(fenced(request)).await;
            assert_eq!(answer.is_ok(), want == 1);
            sleep(Duration::from_millis(50)).await;
            assert_eq!(seen.borrow().len(), want, "{leadership:?}");
        }
    }
}
