//! Names of images, pull secrets, and a registry on loopback that counts what it is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use oci_client::secrets::RegistryAuth;
use serde_json::json;

use super::*;
use crate::model::ids::{PodKey, PodUid};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `user:secret`.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

#[derive(Default)]
struct Asked {
    manifests: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

fn digest(text: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn config() -> String {
    json!({ "os": "linux", "architecture": "arm64", "rootfs": { "type": "layers", "diff_ids": [] } }).to_string()
}

fn descriptor(kind: &str, text: &str) -> serde_json::Value {
    json!({ "mediaType": kind, "digest": digest(text), "size": text.len() })
}

fn manifest_of(repository: &str) -> Option<(&'static str, String)> {
    let platform = |os: &str, architecture: &str| {
        let mut entry = descriptor(MANIFEST, architecture);
        entry["platform"] = json!({ "os": os, "architecture": architecture });
        entry
    };
    match repository {
        "multi" | "private" | "slow" => {
            let manifests = [platform("linux", "arm64"), platform("linux", "amd64"), platform("unknown", "unknown")];
            Some((INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string()))
        }
        "single" | "other" => {
            let config = descriptor("application/vnd.oci.image.config.v1+json", &config());
            Some((MANIFEST, json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] }).to_string()))
        }
        _ => None,
    }
}

async fn manifest(State(asked): State<Arc<Asked>>, Path((repository, _)): Path<(String, String)>, headers: HeaderMap) -> Response {
    asked.manifests.fetch_add(1, Ordering::Relaxed);
    if repository == "private" && headers.get(header::AUTHORIZATION).is_none_or(|said| said != BASIC) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"here\"")]).into_response();
    }
    if repository == "slow" {
        let now = asked.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        asked.most_at_once.fetch_max(now, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        asked.at_once.fetch_sub(1, Ordering::Relaxed);
    }
    match manifest_of(&repository) {
        Some((kind, text)) => {
            ([(header::CONTENT_TYPE, kind.to_owned()), (header::HeaderName::from_static("docker-content-digest"), digest(&text))], text)
                .into_response()
        }
        None => (StatusCode::NOT_FOUND, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#).into_response(),
    }
}

/// A registry that speaks plain HTTP, and its address.
async fn registry() -> (String, Arc<Asked>) {
    let asked = Arc::<Asked>::default();
    let routes = Router::new()
        // As real ones do: who wants to log in learns here how.
        .route("/v2/", get(|| async { (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"here\"")]) }))
        .route("/v2/{repository}/manifests/{reference}", get(manifest))
        .route("/v2/{repository}/blobs/{digest}", get(|| async { config() }))
        .with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, asked)
}

fn resolver(registry: &str) -> Resolver {
    Resolver::new(&ResolverOptions { insecure_registries: vec![registry.to_owned()] }, None, &Metrics::new())
}

fn known(platforms: &[&str]) -> Platforms {
    Platforms::Known(platforms.iter().map(|platform| Box::from(*platform)).collect())
}

fn login(place: &str, user: &str) -> Credentials {
    let config = json!({ "auths": { place: { "username": user, "password": "secret" } } });
    Credentials::from_docker_config(config.to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn platforms_come_from_the_index_or_the_one_configuration() {
    let (registry, _) = registry().await;
    let resolver = resolver(&registry);
    let nobody = Credentials::default();
    assert_eq!(resolver.platforms(&format!("{registry}/multi:1"), &nobody).await, known(&["linux/amd64", "linux/arm64"]));
    assert_eq!(resolver.platforms(&format!("{registry}/single"), &nobody).await, known(&["linux/arm64"]));
    let Platforms::Unknown(why) = resolver.platforms(&format!("{registry}/none:1"), &nobody).await else { panic!("known") };
    assert!(why.contains(&registry), "{why}");
    assert!(matches!(resolver.platforms("UPPER CASE", &nobody).await, Platforms::Unknown(_)));
}

#[tokio::test]
async fn pull_secrets_are_used_and_what_one_may_see_stays_his() {
    let (registry, _) = registry().await;
    let resolver = resolver(&registry);
    let image = format!("{registry}/private:1");
    let Platforms::Unknown(why) = resolver.platforms(&image, &Credentials::default()).await else { panic!("open to all") };
    assert!(why.contains("pull secrets"), "{why}");
    assert_eq!(resolver.platforms(&image, &login(&registry, "user")).await, known(&["linux/amd64", "linux/arm64"]));
    assert!(matches!(resolver.platforms(&image, &Credentials::default()).await, Platforms::Unknown(_)));
    assert!(matches!(resolver.platforms(&image, &login(&registry, "other")).await, Platforms::Unknown(_)));
}

#[tokio::test]
async fn many_who_ask_are_answered_by_few_look_ups() {
    let (registry, asked) = registry().await;
    let resolver = resolver(&registry);
    let nobody = Credentials::default();
    let image = format!("{registry}/slow:1");
    let same = (0..50).map(|_| resolver.platforms(&image, &nobody));
    assert!(futures::future::join_all(same).await.into_iter().all(|answer| answer == known(&["linux/amd64", "linux/arm64"])));
    assert_eq!(asked.manifests.load(Ordering::Relaxed), 1);
    let images: Vec<String> = (0..3 * LOOK_UPS_MAX).map(|at| format!("{registry}/slow:v{at}")).collect();
    futures::future::join_all(images.iter().map(|image| resolver.platforms(image, &nobody))).await;
    assert!(asked.most_at_once.load(Ordering::Relaxed) <= REGISTRY_LOOK_UPS_MAX);
}

#[tokio::test]
async fn a_tag_is_looked_up_again_after_a_while_a_digest_never() {
    let (registry, asked) = registry().await;
    let resolver = resolver(&registry);
    let nobody = Credentials::default();
    let tag = format!("{registry}/multi:1");
    let by_digest = format!("{registry}/multi@{}", digest(&manifest_of("multi").unwrap().1));
    for image in [&tag, &by_digest, &tag, &by_digest] {
        assert_eq!(resolver.platforms(image, &nobody).await, known(&["linux/amd64", "linux/arm64"]));
    }
    assert_eq!(asked.manifests.load(Ordering::Relaxed), 2);
    let entry = resolver.entry(&tag, 0);
    entry.lock().await.as_mut().unwrap().until = Some(Instant::now());
    assert!(resolver.entry(&by_digest, 0).lock().await.as_ref().unwrap().until.is_none());
    resolver.platforms(&tag, &nobody).await;
    resolver.platforms(&by_digest, &nobody).await;
    assert_eq!(asked.manifests.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_registry_that_is_not_there_or_silent_leaves_images_unknown() {
    let nobody = Credentials::default();
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().to_string();
    let Platforms::Unknown(why) = resolver(&closed).platforms(&format!("{closed}/a:1"), &nobody).await else { panic!("known") };
    assert!(why.contains("cannot be asked") && why.contains("insecureRegistries"), "{why}");
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    tokio::time::pause();
    let Platforms::Unknown(why) = resolver(&address).platforms(&format!("{address}/a:1"), &nobody).await else { panic!("known") };
    assert!(why.contains("no answer"), "{why}");
}

#[tokio::test]
async fn a_silent_registry_holds_up_no_other_and_is_not_asked_again_at_once() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    let (registry, _) = registry().await;
    let metrics = Metrics::new();
    let resolver = Resolver::new(&ResolverOptions { insecure_registries: vec![silent_at.clone(), registry.clone()] }, None, &metrics);
    let nobody = Credentials::default();
    let images: Vec<String> = (0..2 * LOOK_UPS_MAX).map(|at| format!("{silent_at}/a:v{at}")).collect();
    let ask_all = || futures::future::join_all(images.iter().map(|image| resolver.platforms(image, &nobody)));
    let other = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = timeout(LOOK_UP_TIMEOUT / 2, resolver.platforms(&format!("{registry}/multi:1"), &nobody)).await;
        assert_eq!(answer.unwrap(), known(&["linux/amd64", "linux/arm64"]));
        tokio::time::pause();
    };
    let (answers, ()) = tokio::join!(ask_all(), other);
    assert!(answers.iter().all(|answer| matches!(answer, Platforms::Unknown(why) if why.contains("no answer"))), "{answers:?}");
    let begin = Instant::now();
    ask_all().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let text = metrics.render();
    for line in [r#"{result="timeout"} 32"#, r#"{result="cached"} 32"#, r#"{result="known"} 1"#] {
        assert!(text.contains(&format!("isobar_image_lookups_total{line}\n")), "{text}");
    }
}

#[tokio::test]
async fn the_engine_gets_an_answer_for_each_image() {
    let (registry, _) = registry().await;
    let (questions, asked) = mpsc::channel(4);
    let (engine, mut inputs) = mpsc::channel(8);
    let desk = tokio::spawn(run(resolver(&registry), asked, engine));
    let pod = PodRef { key: PodKey::new("ns", "web"), uid: PodUid::from("1"), scheduler_name: "isobar-scheduler".into() };
    let images: Vec<Box<str>> = ["multi:1", "single:1", "none:1"].map(|image| format!("{registry}/{image}").into()).into();
    questions.send((pod, images.clone())).await.unwrap();
    drop(questions);
    let mut answered = Vec::new();
    while let Some(Input::ImagePlatforms(image, platforms)) = inputs.recv().await {
        answered.push((image, matches!(platforms, Platforms::Known(_))));
    }
    desk.await.unwrap();
    answered.sort();
    let mut expected: Vec<_> = images.into_iter().zip([true, true, false]).collect();
    expected.sort();
    assert_eq!(answered, expected);
}

#[test]
fn names_are_read_as_container_runtimes_read_them() {
    for (name, registry, repository, tag) in [
        ("nginx", "docker.io", "library/nginx", Some("latest")),
        ("org/app:1.2", "docker.io", "org/app", Some("1.2")),
        ("quay.io/org/app", "quay.io", "org/app", Some("latest")),
        ("localhost:5000/app:x", "localhost:5000", "app", Some("x")),
        ("10.0.0.1:5000/a/b/c", "10.0.0.1:5000", "a/b/c", Some("latest")),
        ("ghcr.io/a/b:v1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ghcr.io", "a/b", Some("v1")),
        ("ghcr.io/a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ghcr.io", "a/b", None),
    ] {
        let reference = registry::parse(name).unwrap();
        assert_eq!((reference.registry(), reference.repository(), reference.tag()), (registry, repository, tag), "{name}");
    }
    for name in ["", "a b", "a:b:c:d", "x@sha256:12"] {
        assert!(registry::parse(name).is_err(), "{name}");
    }
}

#[test]
fn the_longest_place_of_a_pull_secret_counts() {
    let config = json!({ "auths": {
        "https://index.docker.io/v1/": { "auth": "aHViOnNlY3JldA==" },
        "quay.io": { "username": "all", "password": "secret" },
        "quay.io/team": { "username": "team", "password": "secret" },
        "*.example.org": { "username": "star", "password": "secret" },
        "http://plain:5000/": { "registrytoken": "token" },
        "broken.io": { "auth": "%%%" },
    }});
    let credentials = Credentials::from_docker_config(config.to_string().as_bytes()).unwrap();
    let basic = |user: &str| RegistryAuth::Basic(user.to_owned(), "secret".to_owned());
    for (image, expected) in [
        ("nginx", basic("hub")),
        ("quay.io/other/app", basic("all")),
        ("quay.io/team/app:1", basic("team")),
        ("quay.io/teammate/app:1", basic("all")),
        ("a.example.org/app", basic("star")),
        ("a.b.example.org/app", RegistryAuth::Anonymous),
        ("example.org/app", RegistryAuth::Anonymous),
        ("plain:5000/app", RegistryAuth::Bearer("token".to_owned())),
        ("broken.io/app", RegistryAuth::Anonymous),
        ("quay.io.evil.com/app", RegistryAuth::Anonymous),
    ] {
        assert_eq!(credentials.of(&registry::parse(image).unwrap()), expected, "{image}");
    }
    let mut first = login("quay.io", "first");
    first.extend(login("quay.io", "second"));
    assert_eq!(first.of(&registry::parse("quay.io/a").unwrap()), basic("first"));
    assert!(matches!(Credentials::from_docker_config(b"{"), Err(CredentialsError::Json(_))));
    assert!(matches!(Credentials::from_docker_config(b"{}"), Err(CredentialsError::NoAuths)));
    let old = Credentials::from_old_docker_config(br#"{"quay.io":{"username":"old","password":"secret"}}"#).unwrap();
    assert_eq!(old.of(&registry::parse("quay.io/a").unwrap()), basic("old"));
}
