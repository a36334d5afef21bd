//! For tests: an API server that answers by a script and remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use serde_json::Value;
use tower::BoxError;

use super::{api::Api, fence::NotPermitted, leadership::Permission};
use crate::metrics::{ApiMetrics, Metrics};

/// One answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole answer.
    Json(u16, Value),
    /// 429 or 503 with `Retry-After` in seconds.
    Busy(u16, u64),
    /// A stream with status 200.
    Stream(Vec<Piece>),
    /// The connection fails.
    Refuse,
    /// No answer for a day.
    Hang,
    /// The answer comes late.
    After(Duration, Box<Reply>),
}

/// A piece of a stream.
#[derive(Clone, Debug)]
pub enum Piece {
    Line(Value),
    Raw(String),
    Pause(Duration),
    Break,
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub body: Value,
    pub content_type: String,
}

/// A scripted server.
#[derive(Default)]
pub struct Script {
    replies: Mutex<VecDeque<Reply>>,
    asked: Mutex<Vec<Asked>>,
}

/// A pause that outlasts every test.
pub const FOREVER: Duration = Duration::from_secs(24 * 3600);

impl Script {
    /// Answers in this order, and hangs when the script is over.
    pub fn new(replies: Vec<Reply>) -> (Arc<Self>, Api) {
        let script = Arc::new(Self { replies: Mutex::new(replies.into()), asked: Mutex::default() });
        let server = script.clone();
        let service = tower::service_fn(move |request| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        (script, Api::new(kube::Client::new(service, "default"), "scripted:1", ApiMetrics::new(&Metrics::new())))
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often anything was asked so far.
    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Method and path of everything asked so far, without the query.
    pub fn trace(&self) -> Vec<String> {
        self.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path.split('?').next().unwrap())).collect()
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<StreamBodyBox>, BoxError> {
        // As the real client's last look does.
        if request.extensions().get::<Permission>().is_some_and(|permission| !permission.granted()) {
            return Err(NotPermitted.into());
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.asked.lock().unwrap().push(Asked {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            content_type: head.headers.get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned(),
        });
        let mut reply = self.replies.lock().unwrap().pop_front().unwrap_or(Reply::Hang);
        while let Reply::After(wait, then) = reply {
            tokio::time::sleep(wait).await;
            reply = *then;
        }
        match reply {
            Reply::Json(status, value) => Ok(response(status, vec![Piece::Raw(value.to_string())])),
            Reply::Busy(status, seconds) => {
                let mut response = response(status, Vec::new());
                response.headers_mut().insert("retry-after", seconds.to_string().parse().unwrap());
                Ok(response)
            }
            Reply::Stream(pieces) => Ok(response(200, pieces)),
            Reply::Refuse => Err(std::io::Error::other("connection refused").into()),
            Reply::Hang | Reply::After(..) => {
                tokio::time::sleep(FOREVER).await;
                Err(std::io::Error::other("hung").into())
            }
        }
    }
}

type StreamBodyBox = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

fn response(status: u16, pieces: Vec<Piece>) -> Response<StreamBodyBox> {
    let frames = stream::iter(pieces).then(|piece| async move {
        match piece {
            Piece::Line(value) => Ok(Frame::data(Bytes::from(format!("{value}\n")))),
            Piece::Raw(text) => Ok(Frame::data(Bytes::from(text))),
            Piece::Pause(wait) => {
                tokio::time::sleep(wait).await;
                Ok(Frame::data(Bytes::new()))
            }
            Piece::Break => Err(std::io::Error::other("reset by peer")),
        }
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
