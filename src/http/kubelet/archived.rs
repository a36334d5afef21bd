//! Logs of runs that are gone. In: the archive's text, each line with the time at which it was written. Out: the part that a caller wants, as a kubelet
//! would cut it.

use std::{collections::VecDeque, future::Future, io, pin::Pin};

use axum::extract::Query;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use http::{StatusCode, Uri};

use super::answer::Refused;

/// A longer line is looked at in pieces of this size.
const LINE_BYTES_MAX: usize = 256 << 10;

/// Lines from the end that are held while they are looked for; of more, the last ones count.
const TAIL_BYTES_MAX: usize = 16 << 20;

/// What is sent at once.
const CHUNK_BYTES: usize = 32 << 10;

/// Whose log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedLog {
    /// Namespace of the home pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// The container.
    pub container: String,
    /// That of the container before its last restart.
    pub previous: bool,
}

/// The text of a log.
pub type LogStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The archive cannot say.
#[derive(Debug, thiserror::Error)]
#[error("the archive of logs cannot be read: {0}")]
pub struct ArchiveError(pub String);

/// Where logs are kept when their runs are gone.
///
/// The text is what an API server sends for `timestamps=true`: each line begins with its time in RFC 3339 and a blank. Whoever fills the archive asks for
/// it so; here the times are taken off again unless they are wanted.
pub trait ArchivedLogs: Send + Sync {
    /// The whole text; `None` when there is none of that container.
    fn read<'a>(&'a self, wanted: &'a ArchivedLog) -> Pin<Box<dyn Future<Output = Result<Option<LogStream>, ArchiveError>> + Send + 'a>>;
}

/// What part of a log is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) previous: bool,
    timestamps: bool,
    since: Option<jiff::Timestamp>,
    tail_lines: Option<usize>,
    limit_bytes: Option<usize>,
}

impl LogOptions {
    /// Reads a query as a kubelet does. What cannot be read is refused by whoever answers; here it is the archive or the cluster.
    pub(super) fn of(uri: &Uri, now: jiff::Timestamp) -> Result<Self, Refused> {
        let refuse = |what: &str| Refused::new(StatusCode::BAD_REQUEST, format!("{what} cannot be read"));
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| refuse("the query"))?;
        let mut options = Self::default();
        for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            let yes = matches!(&value[..], "1" | "true");
            let number = || value.parse::<usize>().map_err(|_| refuse(key));
            match &key[..] {
                "follow" => options.follow = yes,
                "previous" => options.previous = yes,
                "timestamps" => options.timestamps = yes,
                "tailLines" => options.tail_lines = Some(number()?),
                "limitBytes" => options.limit_bytes = Some(number()?),
                "sinceTime" => options.since = Some(value.parse().map_err(|_| refuse(key))?),
                "sinceSeconds" => {
                    let seconds = value.parse().map_err(|_| refuse(key))?;
                    let ago = jiff::SignedDuration::from_secs(seconds);
                    options.since = Some(now.checked_sub(ago).map_err(|_| refuse(key))?);
                }
                _ => {}
            }
        }
        Ok(options)
    }

    /// Cuts an archived text.
    pub(super) fn cut(self, text: LogStream) -> LogStream {
        let pieces = match self.tail_lines {
            None => Pieces(text).stream().fuse().boxed(),
            Some(lines) => stream::once(tail(Pieces(text), lines)).flat_map(stream::iter).fuse().boxed(),
        };
        let state = (pieces, Cutter { options: self, keep: true, left: self.limit_bytes.unwrap_or(usize::MAX) });
        stream::unfold(state, |(mut pieces, mut cutter)| async move {
            let mut chunk = BytesMut::new();
            while chunk.len() < CHUNK_BYTES && cutter.left > 0 {
                match pieces.next().await {
                    None => break,
                    // What came before the failure is sent by then, or not: the caller learns that the text is not whole.
                    Some(Err(error)) => return Some((Err(error), (stream::empty().boxed(), cutter))),
                    Some(Ok(piece)) => chunk.extend_from_slice(&cutter.cut(&piece)),
                }
            }
            (!chunk.is_empty()).then(|| (Ok(chunk.freeze()), (pieces, cutter)))
        })
        .boxed()
    }
}

/// An archived text without the time at the beginning of each line.
pub fn without_times(text: LogStream) -> LogStream {
    LogOptions::default().cut(text)
}

/// A line with its end, or part of one that is very long.
#[derive(Clone)]
struct Piece {
    text: Bytes,
    begins_line: bool,
}

/// A text to be taken apart.
struct Pieces(LogStream);

impl Pieces {
    fn stream(self) -> impl Stream<Item = io::Result<Piece>> + Send {
        stream::unfold((self.0, BytesMut::new(), true, false), |(mut text, mut buffer, begins_line, mut ended)| async move {
            loop {
                let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
                let long = (buffer.len() >= LINE_BYTES_MAX || (ended && !buffer.is_empty())).then_some(buffer.len());
                if let Some(length) = end.or(long) {
                    let piece = Piece { text: buffer.split_to(length).freeze(), begins_line };
                    return Some((Ok(piece), (text, buffer, end.is_some(), ended)));
                }
                if ended {
                    return None;
                }
                match text.next().await {
                    Some(Ok(more)) => buffer.extend_from_slice(&more),
                    Some(Err(error)) => return Some((Err(error), (stream::empty().boxed(), BytesMut::new(), true, true))),
                    None => ended = true,
                }
            }
        })
    }
}

/// The last lines of a text.
async fn tail(text: Pieces, lines_max: usize) -> Vec<io::Result<Piece>> {
    let (mut kept, mut lines, mut bytes) = (VecDeque::<Piece>::new(), 0_usize, 0_usize);
    let mut pieces = std::pin::pin!(text.stream());
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return vec![Err(error)],
        };
        (lines, bytes) = (lines + usize::from(piece.begins_line), bytes + piece.text.len());
        kept.push_back(piece);
        while lines > lines_max || bytes > TAIL_BYTES_MAX || kept.front().is_some_and(|piece| !piece.begins_line) {
            let Some(gone) = kept.pop_front() else { break };
            (lines, bytes) = (lines - usize::from(gone.begins_line), bytes - gone.text.len());
        }
    }
    kept.into_iter().map(Ok).collect()
}

struct Cutter {
    options: LogOptions,
    /// Whether the line under way is wanted.
    keep: bool,
    /// Bytes that may still be sent.
    left: usize,
}

impl Cutter {
    /// What of a piece is sent.
    fn cut(&mut self, piece: &Piece) -> Bytes {
        let mut text = piece.text.clone();
        if piece.begins_line
            && let Some((time, length)) = time_of(&text)
        {
            self.keep = self.options.since.is_none_or(|since| time >= since);
            if !self.options.timestamps {
                text = text.slice(length..);
            }
        }
        let length = if self.keep { text.len().min(self.left) } else { 0 };
        self.left -= length;
        text.slice(..length)
    }
}

/// The time at which a line begins, and how long it is with the blank after it.
fn time_of(line: &[u8]) -> Option<(jiff::Timestamp, usize)> {
    // 2026-11-28T04:05:06.123456789+00:00 has 35 characters.
    let length = line.iter().take(40).position(|byte| *byte == b' ')?;
    let time = std::str::from_utf8(&line[..length]).ok()?.parse().ok()?;
    Some((time, length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:01Z two\nno time\n2026-01-01T00:00:02Z three";

    fn options(query: &str) -> LogOptions {
        let uri = format!("/containerLogs/ns/p/c?{query}").parse().unwrap();
        LogOptions::of(&uri, "2026-01-01T00:00:03Z".parse().unwrap()).unwrap()
    }

    async fn cut(text: &str, chunk: usize, query: &str) -> String {
        let chunks: Vec<_> = text.as_bytes().chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let parts: Vec<_> = options(query).cut(stream::iter(chunks).boxed()).collect().await;
        String::from_utf8(parts.into_iter().flat_map(|part| part.unwrap().to_vec()).collect()).unwrap()
    }

    #[tokio::test]
    async fn an_archived_text_is_cut_as_a_kubelet_cuts() {
        for (query, expected) in [
            ("", "one\ntwo\nno time\nthree"),
            ("timestamps=true", TEXT),
            ("tailLines=1", "three"),
            ("tailLines=2", "no time\nthree"),
            ("tailLines=0", ""),
            ("tailLines=9", "one\ntwo\nno time\nthree"),
            ("limitBytes=5", "one\nt"),
            ("limitBytes=0", ""),
            ("sinceTime=2026-01-01T00%3A00%3A01Z", "two\nno time\nthree"),
            ("sinceSeconds=1", "three"),
            ("sinceTime=2026-01-01T00%3A00%3A01Z&tailLines=1&timestamps=1&limitBytes=24", "2026-01-01T00:00:02Z thr"),
        ] {
            for chunk in [1, 7, 1000] {
                assert_eq!(cut(TEXT, chunk, query).await, expected, "{query} in chunks of {chunk}");
            }
        }
    }

    #[tokio::test]
    async fn very_long_lines_and_many_lines_stay_bounded() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let text = format!("2026-01-01T00:00:00Z {long}\n2026-01-01T00:00:01Z end\n");
        assert!(cut(&text, 1000, "").await == format!("{long}\nend\n"));
        assert!(cut(&text, 1000, "tailLines=2").await == format!("{long}\nend\n"));
        assert_eq!(cut(&text, 1000, "tailLines=1").await, "end\n");
        assert_eq!(cut(&text, 1000, "sinceTime=2026-01-01T00:00:01Z").await, "end\n");
        let many = "2026-01-01T00:00:00Z 0123456789abcdef\n".repeat(TAIL_BYTES_MAX / 32);
        let kept = cut(&many, 1 << 16, "tailLines=100000000").await;
        assert!(kept.starts_with("0123") && kept.len() < TAIL_BYTES_MAX && kept.len() > TAIL_BYTES_MAX / 3);
    }

    #[tokio::test]
    async fn a_broken_archive_breaks_the_answer() {
        let broken = || stream::iter(vec![Ok(Bytes::from("one\n")), Err(io::Error::other("disk"))]).boxed();
        for query in ["", "tailLines=5"] {
            let parts: Vec<_> = options(query).cut(broken()).collect().await;
            assert!(parts.last().unwrap().is_err(), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for query in ["tailLines=-1", "tailLines=x", "sinceTime=yesterday", "sinceSeconds=x", "limitBytes=1.5"] {
            let uri = format!("/containerLogs/ns/p/c?{query}").parse().unwrap();
            let refused = LogOptions::of(&uri, jiff::Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(refused.code, StatusCode::BAD_REQUEST, "{query}");
        }
    }
}
