//! The page at `/`, and the files that it needs: all of them are in the binary.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::app::App;

/// The page may run its own files, talk to this server, and nothing else; text never becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A file of the page: its path here, its type, its bytes.
struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Whether `route` is a file of the page.
pub(super) fn is_page(route: &str) -> bool {
    FILES.iter().any(|file| file.path == route)
}

/// Adds the page's files.
pub(super) fn routes(mut router: Router<App>) -> Router<App> {
    for file in FILES {
        router = router.route(file.path, get(move || async move { serve(file) }));
    }
    router
}

fn serve(file: &'static File) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, file.kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, file.bytes)
}
