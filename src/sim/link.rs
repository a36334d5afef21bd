//! The line between a client and a simulated API server. In: a state, which may change while requests are under way. Out: requests that pass, are late, are
//! refused, or find nobody who answers.
//!
//! A silent line loses packets and tells nobody, as a pulled cable does: what is under way waits. If the line comes back while the caller still waits,
//! the request or the answer arrives late, as with TCP's retransmissions.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use futures::StreamExt;
use http::{Request, Response};
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tower::BoxError;

use super::signal::Signal;

/// How a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Everything passes at once.
    #[default]
    Up,
    /// Everything passes and takes its time.
    Slow {
        /// From request to answer, without the server's own time.
        round_trip: Duration,
    },
    /// No connection: callers get an error, open streams break.
    Refused,
    /// A black hole: callers wait for as long as they like.
    Silent,
}

/// A line. Cheap to clone; all clones are the same line.
#[derive(Clone, Debug, Default)]
pub struct Link {
    state: Arc<Mutex<LinkState>>,
    changed: Signal,
}

/// Frames of a slow stream that are under way at once.
const FRAMES_IN_FLIGHT_MAX: usize = 1024;

impl Link {
    /// A line in a state.
    pub fn new(state: LinkState) -> Self {
        Self { state: Arc::new(Mutex::new(state)), changed: Signal::default() }
    }

    /// Changes its state from now on.
    pub fn set(&self, state: LinkState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.raise();
    }

    /// Its state.
    pub fn state(&self) -> LinkState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes through a timetable: each state from so long after now. Spawn it.
    pub async fn follow(self, timetable: Vec<(Duration, LinkState)>) {
        let start = Instant::now();
        for (after, state) in timetable {
            sleep_until(start + after).await;
            self.set(state);
        }
    }

    /// One way along the line.
    async fn pass(&self) -> Result<(), BoxError> {
        if self.state() == LinkState::Up {
            return Ok(());
        }
        let mut changes = self.changed.listen();
        loop {
            match self.state() {
                LinkState::Up => return Ok(()),
                LinkState::Slow { round_trip } => {
                    sleep(round_trip / 2).await;
                    return Ok(());
                }
                LinkState::Refused => return Err(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))),
                LinkState::Silent => changes.changed().await,
            }
        }
    }

    /// Ends when the line breaks.
    async fn broken(&self) {
        let mut changes = self.changed.listen();
        while self.state() != LinkState::Refused {
            changes.changed().await;
        }
    }

    /// Sends a request along the line and its answer back.
    pub(super) async fn around<F>(
        &self,
        request: Request<Body>,
        onward: impl FnOnce(Request<Body>) -> F,
    ) -> Result<Response<Body>, BoxError>
    where
        F: Future<Output = Result<Response<Body>, BoxError>>,
    {
        let streams = request.uri().query().is_some_and(|query| query.contains("watch=") || query.contains("follow="));
        self.pass().await?;
        let response = tokio::select! {
            biased;
            response = onward(request) => response?,
            () = self.broken() => return Err(reset()),
        };
        self.pass().await?;
        Ok(if streams { response.map(|body| self.carried(body)) } else { response })
    }

    /// A body whose frames come along the line; it breaks with it.
    fn carried(&self, body: Body) -> Body {
        let (line, end) = (self.clone(), self.clone());
        let frames = body.into_data_stream().map(move |frame| {
            let (line, seen) = (line.clone(), Instant::now());
            async move {
                let late = if let LinkState::Slow { round_trip } = line.state() { round_trip / 2 } else { Duration::ZERO };
                if line.state() == LinkState::Silent {
                    line.pass().await?;
                }
                sleep_until(seen + late).await;
                frame.map_err(BoxError::from)
            }
        });
        let frames = frames.buffered(FRAMES_IN_FLIGHT_MAX);
        let cut = futures::stream::once(async move {
            end.broken().await;
            Err(reset())
        });
        Body::from_stream(until_cut(frames, cut))
    }
}

/// The first stream up to its end or the second's first item.
fn until_cut<T>(
    frames: impl futures::Stream<Item = T> + Send + 'static,
    cut: impl futures::Stream<Item = T> + Send + 'static,
) -> impl futures::Stream<Item = T> + Send + 'static
where
    T: Send + 'static,
{
    futures::stream::unfold(Some((Box::pin(frames), Box::pin(cut))), |streams| async move {
        let (mut frames, mut cut) = streams?;
        tokio::select! {
            biased;
            broken = cut.next() => broken.map(|broken| (broken, None)),
            frame = frames.next() => frame.map(|frame| (frame, Some((frames, cut)))),
        }
    })
}

fn reset() -> BoxError {
    Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
}
