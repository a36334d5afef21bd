//! The rules of the section `federation`. In: its wire form. Out: settings, or findings; and the wire form of settings again.

use core::net::IpAddr;

use super::{
    defaults, duration,
    own_federation::{self as own, Archive, Images, KubeletEndpoint, S3},
    path::Path,
    report::Report,
    resolve_own::not_negative,
    resolved::{ArchivePlace, ArchiveSettings, FederationSettings, S3Bucket},
};

/// A shorter log would hold nothing but the note that it was cut.
const LOG_BYTES_MIN: u64 = 64 << 10;

/// The section as it counts.
pub fn settings(written: own::Federation, report: &mut Report) -> FederationSettings {
    let path = Path::root().field("federation");
    let endpoint = written.kubelet_endpoint.unwrap_or_default();
    let at = path.field("kubeletEndpoint");
    let bind = endpoint.bind_address.as_deref().unwrap_or(defaults::BIND_ADDRESS);
    let port = endpoint.port.unwrap_or(defaults::KUBELET_PORT);
    if port == 0 {
        report.invalid(&at.field("port"), port, "must be between 1 and 65535").help("API servers are told the port; the default is 10260");
    }
    let images = written.images.unwrap_or_default();
    FederationSettings {
        enabled: written.enabled.unwrap_or(false),
        bind_address: address(bind, &at.field("bindAddress"), report).unwrap_or(IpAddr::from([0, 0, 0, 0])),
        port,
        advertise_address: endpoint.advertise_address.and_then(|text| address(&text, &at.field("advertiseAddress"), report)),
        self_signed: endpoint.certificate.as_deref() == Some("SelfSigned"),
        archive: written.archive.and_then(|archive| place(archive, &path.field("archive"), report)),
        resolve_images: images.resolve.unwrap_or(true),
        insecure_registries: images.insecure_registries.unwrap_or_default(),
    }
}

fn address(text: &str, path: &Path, report: &mut Report) -> Option<IpAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        report.invalid_text(path, text, "must be an IP address");
    }
    address
}

pub(super) fn place(written: Archive, path: &Path, report: &mut Report) -> Option<ArchiveSettings> {
    let log_bytes_max = written.log_bytes_max.unwrap_or(defaults::LOG_BYTES_MAX);
    if log_bytes_max < LOG_BYTES_MIN {
        report
            .invalid(&path.field("logBytesMax"), log_bytes_max, "must be at least 65536")
            .help("it is in bytes; the default is 268435456");
    }
    let keep_for = not_negative(written.keep_for.as_deref(), defaults::LOGS_KEEP_FOR, &path.field("keepFor"), report);
    let place = match (written.folder, written.s3) {
        (Some(folder), None) if folder.starts_with('/') => ArchivePlace::Folder(folder),
        (Some(folder), None) => {
            report.invalid_text(&path.field("folder"), &folder, "must be an absolute path");
            return None;
        }
        (None, Some(s3)) if s3.bucket.is_empty() => {
            report.required(&path.field("s3").field("bucket"), "").help("name the bucket");
            return None;
        }
        (None, Some(s3)) => ArchivePlace::S3(bucket(s3, &path.field("s3"), report)),
        (folder, _) => {
            let what = if folder.is_some() { "both folder and s3 are given" } else { "neither folder nor s3 is given" };
            report.required(path, what).help("say one of them, or leave archive out to keep no logs");
            return None;
        }
    };
    Some(ArchiveSettings { place, keep_for, bytes_max: written.bytes_max, log_bytes_max })
}

fn bucket(written: S3, path: &Path, report: &mut Report) -> S3Bucket {
    let endpoint = written.endpoint.filter(|endpoint| {
        let right = endpoint.starts_with("https://") || endpoint.starts_with("http://");
        if !right {
            report.invalid_text(&path.field("endpoint"), endpoint, "must begin with https:// or http://");
        }
        right
    });
    S3Bucket { bucket: written.bucket, prefix: written.prefix.unwrap_or_default(), endpoint, region: written.region }
}

/// The section as a file would say it.
pub fn written(settings: &FederationSettings) -> own::Federation {
    own::Federation {
        enabled: Some(settings.enabled),
        kubelet_endpoint: Some(KubeletEndpoint {
            bind_address: Some(settings.bind_address.to_string()),
            port: Some(settings.port),
            advertise_address: settings.advertise_address.map(|address| address.to_string()),
            certificate: Some(if settings.self_signed { "SelfSigned" } else { "Csr" }.to_owned()),
        }),
        archive: settings.archive.as_ref().map(written_archive),
        images: Some(Images {
            resolve: Some(settings.resolve_images),
            insecure_registries: Some(settings.insecure_registries.clone()).filter(|registries| !registries.is_empty()),
        }),
    }
}

/// An archive as a file would say it.
pub(super) fn written_archive(archive: &ArchiveSettings) -> Archive {
    let (folder, s3) = match &archive.place {
        ArchivePlace::Folder(folder) => (Some(folder.clone()), None),
        ArchivePlace::S3(S3Bucket { bucket, prefix, endpoint, region }) => {
            let prefix = Some(prefix.clone()).filter(|prefix| !prefix.is_empty());
            (None, Some(S3 { bucket: bucket.clone(), prefix, endpoint: endpoint.clone(), region: region.clone() }))
        }
    };
    Archive {
        folder,
        s3,
        keep_for: Some(duration::format(archive.keep_for)),
        bytes_max: archive.bytes_max,
        log_bytes_max: Some(archive.log_bytes_max),
    }
}
