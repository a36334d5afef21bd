//! Bytes of a streaming answer in, lines out. One buffer is used again and again; a line is copied once.

use std::{io::BufRead, time::Duration};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::timeout;

use super::api::with_causes;

/// A longer line is no object: etcd takes 1.5 MiB, and JSON is a few times that.
const LINE_BYTES_MAX: usize = 16 << 20;
/// A buffer that one large object has stretched beyond this is given back.
const BUFFER_BYTES_KEPT: usize = 64 << 10;

/// A stream of lines.
pub struct Lines {
    body: Body,
    frame: Bytes,
    line: Vec<u8>,
    whole: bool,
}

/// Why there is no further line.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// Nothing came for too long: the other side may be gone without a word.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// The connection broke.
    #[error("the stream broke: {0}")]
    Broken(String),
    /// No line ends that late.
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

impl Lines {
    /// Reads lines from an answer's body.
    pub fn new(body: Body) -> Self {
        Self { body, frame: Bytes::new(), line: Vec::new(), whole: false }
    }

    /// The next line, without its end; `None` when the server closed the stream. An unfinished last line is dropped, as it is no whole object.
    pub async fn next(&mut self, silence_max: Duration) -> Result<Option<&[u8]>, LinesError> {
        if self.whole {
            self.line.clear();
            self.line.shrink_to(BUFFER_BYTES_KEPT);
            self.whole = false;
        }
        loop {
            if self.take_from_frame()? {
                return Ok(Some(&self.line[..self.line.len() - 1]));
            }
            match timeout(silence_max, self.body.frame()).await {
                Err(_) => return Err(LinesError::Silent(silence_max)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(LinesError::Broken(with_causes(&error))),
                Ok(Some(Ok(frame))) => self.frame = frame.into_data().unwrap_or_default(),
            }
        }
    }

    /// Moves bytes up to and with the next line end from the frame to the line. True when the line is whole.
    fn take_from_frame(&mut self) -> Result<bool, LinesError> {
        // Reading from memory does not fail.
        let taken = (&self.frame[..]).read_until(b'\n', &mut self.line).unwrap_or(0);
        self.frame.advance(taken);
        if self.line.len() > LINE_BYTES_MAX {
            return Err(LinesError::TooLong);
        }
        self.whole = taken > 0 && self.line.ends_with(b"\n");
        Ok(self.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cuts_at_line_ends_only() {
        let mut lines = Lines::new(Body::from(b"one\n\ntwo two\nhalf".to_vec()));
        let mut got = Vec::new();
        while let Some(line) = lines.next(Duration::from_secs(1)).await.unwrap() {
            got.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(got, ["one", "", "two two"]);
    }
}
