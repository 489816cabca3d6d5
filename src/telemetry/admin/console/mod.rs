//! The console: one page for people, with everything that it needs, built into the binary.
//!
//! The files of the folder `page` are what the browser gets: no build step, nothing from elsewhere. What is in them is no
//! secret, so everybody who reaches the listener may read them; they ask `/api` for everything else.

use std::sync::LazyLock;

use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use hyper::header::{IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

/// Nothing but the bridge's own files and answers; no script or style within the page, and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 8] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "clipboard-write=(self)"),
    // Another version of the bridge has other files under the same names.
    (CACHE_CONTROL, "no-cache"),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! files {
    ($(($path:literal, $kind:ident, $file:literal)),+ $(,)?) => {
        /// Path, type and content of each file.
        const FILES: &[(&str, &str, &str)] = &[$(($path, $kind, include_str!(concat!("page/", $file)))),+];
    };
}

files![
    ("/", HTML, "index.html"),
    ("/console/api.js", SCRIPT, "api.js"),
    ("/console/app.js", SCRIPT, "app.js"),
    ("/console/command.js", SCRIPT, "command.js"),
    ("/console/console.css", STYLE, "console.css"),
    ("/console/dom.js", SCRIPT, "dom.js"),
    ("/console/icon.svg", IMAGE, "icon.svg"),
    ("/console/json.js", SCRIPT, "json.js"),
    ("/console/messages.js", SCRIPT, "messages.js"),
    ("/console/metrics.js", SCRIPT, "metrics.js"),
    ("/console/overview.js", SCRIPT, "overview.js"),
    ("/console/picture.js", SCRIPT, "picture.js"),
    ("/console/plot.js", SCRIPT, "plot.js"),
    ("/console/sessions.js", SCRIPT, "sessions.js"),
    ("/console/trace.js", SCRIPT, "trace.js"),
];

/// Tags of the files, by which a browser asks whether it has them already.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let tag = |content: &str| {
        let digest: String = Sha256::digest(content)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        HeaderValue::from_str(&format!("\"{digest}\"")).expect("digits and quotes")
    };
    FILES.iter().map(|(_, _, content)| tag(content)).collect()
});

/// The file of a path, or 304 where the browser has it; `None`: there is none.
pub(super) fn file(path: &str, headers: &HeaderMap) -> Option<Response<Bytes>> {
    let index = FILES.iter().position(|(known, _, _)| *known == path)?;
    let (_, kind, content) = FILES[index];
    let tag = &TAGS[index];
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|given| given == tag);
    let mut answer = Response::new(Bytes::from_static(if is_known { b"" } else { content.as_bytes() }));
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let head = answer.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    head.insert(ETAG, tag.clone());
    for (name, value) in HEADERS {
        head.insert(name, HeaderValue::from_static(value));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_takes_nothing_from_elsewhere_and_makes_no_markup_of_text() {
        for (path, kind, content) in FILES {
            let content = content.replace("http://www.w3.org/2000/svg", "");
            for foreign in ["http://", "https://", "src=\"//", "url(", "@import", "<style", " style="] {
                assert!(!content.contains(foreign), "{path} has {foreign}");
            }
            for markup in
                ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "new Function", "srcdoc"]
            {
                assert!(!content.contains(markup), "{path} has {markup}");
            }
            let has_inline_script = content.match_indices("<script").any(|(at, _)| !content[at..].contains("src="));
            let has_inline_listener =
                ["onclick=", "onload=", "onerror=", "javascript:"].iter().any(|on| content.contains(on));
            assert!(*kind != HTML || !has_inline_script && !has_inline_listener, "{path}");
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_there_and_every_file_is_named() {
        let names = |path: &str| {
            let name = path.strip_prefix("/console/").unwrap_or(path);
            FILES.iter().any(|(_, _, content)| {
                content.contains(&format!("\"/console/{name}\"")) || content.contains(&format!("\"./{name}\""))
            })
        };
        for (path, _, content) in FILES {
            assert!(*path == "/" || names(path), "nothing names {path}");
            for import in content.split("from \"./").skip(1) {
                let name = import.split('"').next().unwrap_or_default();
                assert!(FILES.iter().any(|(path, _, _)| *path == format!("/console/{name}")), "{path} imports {name}");
            }
        }
    }

    #[test]
    fn a_browser_that_has_a_file_gets_no_second_copy() {
        let first = file("/console/app.js", &HeaderMap::new()).expect("the file is there");
        let tag = first.headers()[ETAG].clone();
        assert_eq!((first.status(), first.headers()[CONTENT_TYPE].as_bytes()), (StatusCode::OK, SCRIPT.as_bytes()));
        let again = file("/console/app.js", &HeaderMap::from_iter([(IF_NONE_MATCH, tag.clone())]));
        let again = again.expect("the file is there");
        assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(again.headers()[CONTENT_SECURITY_POLICY], POLICY);
        let other = file("/", &HeaderMap::from_iter([(IF_NONE_MATCH, tag)])).expect("the page is there");
        assert_eq!(other.status(), StatusCode::OK);
        assert!(
            file("/console/", &HeaderMap::new()).is_none() && file("/console/other.js", &HeaderMap::new()).is_none()
        );
    }
}
