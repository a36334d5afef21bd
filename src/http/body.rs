//! Bodies of requests. In: a body of any length. Out: its bytes, or a refusal that its sender can read: what is too long is read on and thrown away up to a
//! bound, as a sender that is cut off in the middle hears a broken stream instead of the answer.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, Version},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::status::Refusal;

/// Bytes that are thrown away for the sake of a readable answer; a sender of more may hear a broken stream.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The body, if it has at most so many bytes. `advice` tells what to do with more.
pub(super) async fn take(version: Version, headers: &HeaderMap, mut body: Body, bytes_max: usize, advice: &str) -> Result<Bytes, Refusal> {
    let deadline = Instant::now() + BODY_TIMEOUT;
    let declared = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // Who asks before it sends is told before it sends; over HTTP/2 clients say so and send all the same.
    let asks_first = headers.contains_key("expect") && version <= Version::HTTP_11;
    let is_hopeless = declared.is_some_and(|bytes| bytes > DISCARDED_BYTES_MAX || (bytes > bytes_max && asks_first));
    let too_long = |bytes: usize| Refusal::TooLarge(format!("the body has {bytes} bytes or more; {bytes_max} are taken: {advice}"));
    if is_hopeless {
        return Err(too_long(declared.unwrap_or_default()));
    }
    let (mut taken, mut bytes) = (BytesMut::new(), 0_usize);
    loop {
        let frame = timeout_at(deadline, body.frame()).await;
        let frame = frame.map_err(|_| Refusal::BadRequest(format!("the body did not come within {} s", BODY_TIMEOUT.as_secs())))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Refusal::BadRequest(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        bytes = bytes.saturating_add(data.len());
        if bytes > DISCARDED_BYTES_MAX {
            break;
        }
        if bytes <= bytes_max {
            taken.extend_from_slice(&data);
        } else {
            taken.clear();
        }
    }
    if bytes > bytes_max { Err(too_long(declared.unwrap_or(bytes))) } else { Ok(taken.freeze()) }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn body(pieces: usize) -> Body {
        let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 20]));
        Body::from_stream(futures::stream::iter((0..pieces).map(move |_| piece())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_taken_up_to_the_bound_and_refused_beyond_it() {
        for (pieces, taken) in [(0, Some(0)), (2, Some(2 << 20)), (3, None), (80, None)] {
            let answer = take(Version::HTTP_2, &HeaderMap::new(), body(pieces), 2 << 20, "send less").await;
            assert_eq!(answer.as_ref().ok().map(Bytes::len), taken, "{pieces} MiB");
            if let Err(refusal) = answer {
                assert!(matches!(&refusal, Refusal::TooLarge(text) if text.contains("send less")), "{refusal}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_first_or_announces_too_much_is_refused_before_anything_is_read() {
        let never = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>().boxed());
        let cases = [
            (Version::HTTP_11, "3", true, true),
            (Version::HTTP_2, "3", true, false),
            (Version::HTTP_11, "3", false, false),
            (Version::HTTP_2, "70000000", false, true),
        ];
        for (version, length, expect, is_refused_at_once) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("content-length", length.parse().unwrap());
            if expect {
                headers.insert("expect", "100-continue".parse().unwrap());
            }
            let began = Instant::now();
            let refusal = take(version, &headers, never(), 2, "send less").await.unwrap_err();
            assert_eq!(began.elapsed() == Duration::ZERO, is_refused_at_once, "{version:?} {length}: {refusal}");
        }
    }
}
