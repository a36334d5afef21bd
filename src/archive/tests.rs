//! The archive over a folder and in memory.

use std::io;

use futures::stream;

use super::*;

fn key(container: &str, previous: bool) -> LogKey {
    LogKey { pod: PodKey::new("ns", "web"), uid: PodUid::from("1234-ab"), container: container.into(), previous }
}

fn body(chunks: &[&str]) -> BoxStream<'static, Result<Bytes, io::Error>> {
    stream::iter(chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk.as_bytes()))).collect::<Vec<_>>()).boxed()
}

fn broken(chunks: &[&str]) -> BoxStream<'static, Result<Bytes, io::Error>> {
    body(chunks).chain(stream::iter([Err(io::Error::other("gone"))])).boxed()
}

async fn text(archive: &LogArchive, key: &LogKey) -> Option<String> {
    let chunks: Vec<Bytes> = archive.read(key).await.unwrap()?.try_collect().await.unwrap();
    Some(String::from_utf8(chunks.concat()).unwrap())
}

fn archives(folder: &tempfile::TempDir) -> [LogArchive; 2] {
    [LogArchive::folder(folder.path()).unwrap(), LogArchive::in_memory()]
}

#[tokio::test]
async fn a_log_is_kept_read_replaced_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    for archive in archives(&folder) {
        archive.probe().await.unwrap();
        assert_eq!(text(&archive, &key("app", false)).await, None);
        let receipt = archive.write(&key("app", false), body(&["one\n", "two\n"])).await.unwrap();
        assert!(receipt.complete && !receipt.cut && receipt.bytes == 8);
        assert_eq!(archive.receipt(&key("app", false)).await.unwrap(), Some(receipt));
        archive.write(&key("app", true), body(&["before"])).await.unwrap();
        archive.write(&key("app", false), body(&["1\n"])).await.unwrap();
        assert_eq!(text(&archive, &key("app", false)).await.as_deref(), Some("1\n"));
        assert_eq!(text(&archive, &key("app", true)).await.as_deref(), Some("before"));
        let kept = archive.list(&key("", false).pod, &key("", false).uid).await.unwrap();
        assert_eq!(kept.len(), 2, "{kept:?}");
        archive.remove(&PodKey::new("ns", "web"), &PodUid::from("1234-ab")).await.unwrap();
        assert_eq!(text(&archive, &key("app", true)).await, None);
        assert_eq!(archive.list(&key("", false).pod, &key("", false).uid).await.unwrap(), []);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no empty folder stays");
}

#[tokio::test]
async fn long_logs_go_in_parts_and_too_long_ones_are_cut_visibly() {
    let folder = tempfile::tempdir().unwrap();
    let line = "2026-01-01T00:00:00Z 0123456789abcdef\n";
    let chunk = line.repeat(1000);
    for archive in archives(&folder) {
        let receipt = archive.write(&key("app", false), body(&vec![&*chunk; 40])).await.unwrap();
        assert_eq!(receipt.bytes, 40 * chunk.len() as u64);
        let kept = text(&archive, &key("app", false)).await.unwrap();
        assert!(kept == chunk.repeat(40), "{} bytes", kept.len());
        assert_eq!(<[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(kept)), receipt.sha256);
        let archive = archive.with_log_bytes_max(1_000_000);
        let receipt = archive.write(&key("app", false), body(&vec![&*chunk; 40])).await.unwrap();
        let kept = text(&archive, &key("app", false)).await.unwrap();
        assert!(receipt.cut && receipt.complete && kept.len() < 1_000_200);
        assert!(kept.ends_with("[isobar: the log is longer than 1000000 bytes; the rest was not kept]\n"), "{}", &kept[kept.len() - 100..]);
        let exact = archive.with_log_bytes_max(chunk.len() as u64).write(&key("app", false), body(&[&chunk])).await.unwrap();
        assert!(!exact.cut);
    }
}

#[tokio::test]
async fn what_breaks_off_is_kept_unless_more_is_kept() {
    let archive = LogArchive::in_memory();
    let receipt = archive.write(&key("app", false), broken(&["one\n", "two\n"])).await.unwrap();
    assert!(!receipt.complete);
    archive.write(&key("app", false), broken(&["one\n"])).await.unwrap();
    assert_eq!(text(&archive, &key("app", false)).await.as_deref(), Some("one\ntwo\n"));
    assert_eq!(archive.receipt(&key("app", false)).await.unwrap(), Some(receipt), "text and receipt agree");
    archive.write(&key("app", false), body(&["whole\n"])).await.unwrap();
    assert_eq!(text(&archive, &key("app", false)).await.as_deref(), Some("whole\n"));
}

#[tokio::test]
async fn a_reader_never_sees_half_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let archive = LogArchive::folder(folder.path()).unwrap();
    archive.write(&key("app", false), body(&["old"])).await.unwrap();
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Bytes, io::Error>>();
    let writer = tokio::spawn({
        let archive = archive.clone();
        async move { archive.write(&key("app", false), receiver).await }
    });
    for _ in 0..4 {
        sender.unbounded_send(Ok(Bytes::from(vec![b'x'; FILE_PART_BYTES]))).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(text(&archive, &key("app", false)).await.as_deref(), Some("old"));
    }
    drop(sender);
    writer.await.unwrap().unwrap();
    assert_eq!(text(&archive, &key("app", false)).await.unwrap().len(), 4 * FILE_PART_BYTES);
}

#[tokio::test]
async fn what_a_writer_that_was_killed_left_is_cleared_when_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let pod = folder.path().join("ns/web_1");
    std::fs::create_dir_all(&pod).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    for (name, modified) in [("app.log#1", Some(old)), ("app.log#2", None), ("app.log", Some(old))] {
        let file = std::fs::File::create(pod.join(name)).unwrap();
        if let Some(time) = modified {
            file.set_modified(time).unwrap();
        }
    }
    LogArchive::folder(folder.path()).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&pod).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["app.log", "app.log#2"]);
}

#[test]
fn no_name_leads_astray_and_no_two_names_meet() {
    let path = |namespace: &str, pod: &str, uid: &str, container: &str, previous| {
        LogKey { pod: PodKey::new(namespace, pod), uid: PodUid::from(uid), container: container.into(), previous }.text_path()
    };
    assert_eq!(path("ns", "web-0.a", "12-ab", "app", false), "ns/web-0.a_12-ab/app.log");
    assert_eq!(path("ns", "web", "12-ab", "app", true), "ns/web_12-ab/app.previous.log");
    let long = "a".repeat(253);
    let odd = [
        path("..", "..", "", "", false),
        path("", "a/b", "..", "../x", false),
        path("", "a=2fb", "..", "../x", false),
        path("ns", "a_b", "c", "d", false),
        path("ns", "a", "b_c", "d", false),
        path("ns", "a", "b", "d.previous", false),
        path("ns", "a", "b", "d", true),
        path("ns", &format!("{long}1"), "b", "ü", false),
        path("ns", &format!("{long}2"), "b", "ü", false),
    ];
    for (at, one) in odd.iter().enumerate() {
        assert!(one.split('/').count() == 3 && Path::parse(one).is_ok(), "{one}");
        assert!(one.split('/').all(|part| !part.is_empty() && part.len() <= 255 && part != ".."), "{one}");
        assert!(!odd[..at].contains(one), "{one} twice");
    }
}

#[tokio::test]
async fn logs_live_as_long_as_their_pod_and_a_while_more() {
    let archive = LogArchive::in_memory();
    archive.write(&key("app", false), body(&["log"])).await.unwrap();
    let written = archive.list(&key("", false).pod, &key("", false).uid).await.unwrap()[0].written_at;
    let rules = SweepRules { keep_for: crate::model::time::DurationMs::from_secs(60), bytes_max: None };
    let late = Timestamp(written.0 + 1_000_000_000);
    assert_eq!(archive.sweep(late, rules, |uid| uid == "1234-ab").await.unwrap().pods, 0, "the pod is there");
    assert_eq!(archive.sweep(written, rules, |_| false).await.unwrap().pods, 0, "its time begins");
    assert_eq!(archive.sweep(Timestamp(written.0 + 30_000), rules, |_| false).await.unwrap().pods, 0);
    let swept = archive.sweep(late, rules, |_| false).await.unwrap();
    assert_eq!((swept.pods, swept.kept_bytes), (1, 0));
    assert_eq!(text(&archive, &key("app", false)).await, None);
    archive.write(&key("app", false), body(&["log"])).await.unwrap();
    let full = SweepRules { bytes_max: Some(10), ..rules };
    assert_eq!(archive.sweep(written, full, |_| false).await.unwrap().pods, 1, "there is no room");
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = LogArchive::folder(&file).err().unwrap().to_string();
    assert!(error.contains("cannot be made") && error.contains("let the program's user write"), "{error}");
    let of = |kind: io::ErrorKind| {
        ArchiveError::of("keeping", object_store::Error::Generic { store: "x", source: Box::new(io::Error::from(kind)) })
    };
    assert!(matches!(of(io::ErrorKind::StorageFull), ArchiveError::Full(..)));
    assert!(matches!(of(io::ErrorKind::PermissionDenied), ArchiveError::Denied(..)));
    assert!(matches!(of(io::ErrorKind::ConnectionReset), ArchiveError::Unavailable(..)));
}
