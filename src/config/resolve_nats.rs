//! NATS in the section `tasks`. In: its wire form. Out: settings, or findings; and the wire form of settings again.

use super::{
    own_tasks::{NatsServers, NatsStream, NatsSubject},
    path::Path,
    report::Report,
    resolve_own::absolute,
    resolved::{NatsServerSettings, NatsStreamSettings, NatsSubjectSettings},
};

/// A longer name of a stream or consumer is refused by servers, as it names a folder.
const NAME_BYTES_MAX: usize = 255;

/// A stream whose messages arrive under this source.
pub(super) fn stream(written: NatsStream, source: &str, path: &Path, report: &mut Report) -> NatsStreamSettings {
    let consumer = written.consumer.unwrap_or_else(|| format!("isobar-{source}"));
    let subjects = written.subjects.unwrap_or_default();
    name(&written.stream, &path.field("stream"), "name the stream: Isobar makes none", report);
    name(&consumer, &path.field("consumer"), "leave it out for the default", report);
    for (at, one) in subjects.iter().enumerate() {
        let path = path.field("subjects").index(at);
        if !is_subject(one, true) {
            report.invalid_text(&path, one, "must be words with dots between them, where * is any word and > at the end all the rest");
        } else if subjects[..at].contains(one) {
            report.duplicate(&path, one).help("say it once");
        }
    }
    NatsStreamSettings { servers: servers(written.servers, &path.field("servers"), report), stream: written.stream, subjects, consumer }
}

/// A subject that ends of runs are told to.
pub(super) fn subject(written: NatsSubject, path: &Path, report: &mut Report) -> NatsSubjectSettings {
    let at = path.field("subject");
    if written.subject.is_empty() {
        report.required(&at, "").help("a stream must take it, such as one with the subjects isobar.>");
    } else if !is_subject(&written.subject, false) {
        report.invalid_text(&at, &written.subject, "must be words with dots between them, without * and >");
    }
    NatsSubjectSettings { servers: servers(written.servers, &path.field("servers"), report), subject: written.subject }
}

fn name(name: &str, path: &Path, help: &str, report: &mut Report) {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b".*>/\\".contains(&byte);
    if name.is_empty() {
        report.required(path, "").help(help);
    } else if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        report.invalid_text(path, name, "must have at most 255 characters, without blanks and . * > / \\");
    }
}

fn is_subject(subject: &str, wild: bool) -> bool {
    let mut words = subject.split('.').peekable();
    while let Some(word) = words.next() {
        let is_wild = word == "*" || (word == ">" && words.peek().is_none());
        let is_plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'>');
        if !(is_plain || wild && is_wild) {
            return false;
        }
    }
    true
}

fn servers(written: NatsServers, path: &Path, report: &mut Report) -> NatsServerSettings {
    if written.urls.is_empty() {
        report.required(&path.field("urls"), "").help("say where its servers are, such as nats://nats.example:4222");
    }
    for (at, url) in written.urls.iter().enumerate() {
        let rest = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"));
        let is_plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@?#".contains(&byte));
        if !rest.is_some_and(is_plain) {
            report
                .invalid_text(
                    &path.field("urls").index(at),
                    url,
                    "must be an address such as nats://nats.example:4222, without credentials",
                )
                .help("a token is read from tokenFile, a password from passwordFile");
        }
    }
    let files = [
        ("tokenFile", &written.token_file),
        ("passwordFile", &written.password_file),
        ("caFile", &written.ca_file),
        ("certificateFile", &written.certificate_file),
        ("keyFile", &written.key_file),
    ];
    for (field, file) in files {
        if let Some(file) = file {
            absolute(file, &path.field(field), report);
        }
    }
    if written.token_file.is_some() && written.user.is_some() {
        report.forbidden(&path.field("tokenFile"), "may not be said beside user").help("say one of them: who we are");
    }
    NatsServerSettings {
        urls: written.urls,
        token_file: written.token_file,
        user: both(("user", written.user), ("passwordFile", written.password_file), path, report),
        ca_file: written.ca_file,
        certificate: both(("certificateFile", written.certificate_file), ("keyFile", written.key_file), path, report),
    }
}

/// Two fields that are said together or not at all.
fn both(
    first: (&'static str, Option<String>),
    second: (&'static str, Option<String>),
    path: &Path,
    report: &mut Report,
) -> Option<(String, String)> {
    let missing = match (first.1, second.1) {
        (Some(first), Some(second)) => return Some((first, second)),
        (None, None) => return None,
        (Some(_), None) => (second.0, first.0),
        (None, Some(_)) => (first.0, second.0),
    };
    report.required(&path.field(missing.0), &format!("it goes with {}", missing.1)).help("say both or neither");
    None
}

/// A stream as a file would say it.
pub(super) fn written_stream(settings: &NatsStreamSettings) -> NatsStream {
    NatsStream {
        servers: written_servers(&settings.servers),
        stream: settings.stream.clone(),
        subjects: Some(settings.subjects.clone()).filter(|subjects| !subjects.is_empty()),
        consumer: Some(settings.consumer.clone()),
    }
}

/// A subject as a file would say it.
pub(super) fn written_subject(settings: &NatsSubjectSettings) -> NatsSubject {
    NatsSubject { servers: written_servers(&settings.servers), subject: settings.subject.clone() }
}

fn written_servers(settings: &NatsServerSettings) -> NatsServers {
    let (user, password_file) = settings.user.clone().unzip();
    let (certificate_file, key_file) = settings.certificate.clone().unzip();
    NatsServers {
        urls: settings.urls.clone(),
        token_file: settings.token_file.clone(),
        user,
        password_file,
        ca_file: settings.ca_file.clone(),
        certificate_file,
        key_file,
    }
}
