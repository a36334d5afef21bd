//! The page at `/ui/`: a document, a style sheet, a script, embedded. In: requests of a browser. Out: the files. They hold no data: the script asks the HTTP
//! API for it, with the token that a person enters, which it keeps in memory alone.

use axum::{
    Router,
    http::header,
    response::{IntoResponse, Redirect},
    routing::get,
};

/// Nothing from elsewhere, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, media type, content.
const FILES: [(&str, &str, &str); 4] = [
    ("/ui/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/ui/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/ui/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("/ui/icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

/// The routes. The script is told whether it is any use to ask without a token.
pub(super) fn router(anonymous: bool) -> Router {
    let settings = if anonymous { "{\"anonymous\": true}" } else { "{\"anonymous\": false}" };
    let router = Router::new()
        .route("/ui", get(async || Redirect::permanent("/ui/")))
        .route("/ui/settings.json", get(async move || headers("application/json", settings).into_response()));
    FILES
        .into_iter()
        .fold(router, |router, (path, kind, content)| router.route(path, get(async move || headers(kind, content).into_response())))
}

fn headers(kind: &'static str, content: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, content)
}
