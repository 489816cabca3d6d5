//! Access to `/api`.

use std::net::IpAddr;

use hyper::Method;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use crate::protocol::secret::Secret;

const NO_TOKEN: &str = "on an address that is not loopback /api needs admin.token, given as a bearer token";
const WRONG_TOKEN: &str = "/api needs admin.token, given as a bearer token";
const FOREIGN_HOST: &str =
    "without admin.token /api answers requests alone whose Host is localhost or a loopback address";
const FOREIGN_ORIGIN: &str = "/api takes no requests of other sites: Origin is not the same as Host";
const FOREIGN_SITE: &str = "/api takes no requests of other sites: Sec-Fetch-Site is not same-origin";
const READ_ONLY: &str = "without admin.token no page of a browser changes anything";

/// Relation of the page that makes a browser send a request to the address that it asks for (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request may not use `/api`; `None`: it may.
///
/// Without a token a listener on loopback trusts everybody on this machine, and a browser on it is led by any site: a
/// name of that site can be made to mean 127.0.0.1 (DNS rebinding), so that its pages may read what comes back. The
/// Host of such a request still is that name, and the Origin of a request that changes something is that site. The
/// browser also says of a request that reads whether it comes of a page of this address. Without a token even such a page
/// changes nothing: a person who looks is not taken for one who may act. Programs send neither header.
pub(super) fn refusal(parts: &Parts, token: Option<&Secret>, is_loopback: bool) -> Option<&'static str> {
    let headers = &parts.headers;
    // RFC 9112, 3.2.2: an authority in the request line counts in the place of Host.
    let host = match parts.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => only(headers, &HOST).and_then(|host| host.parse().ok()),
    };
    match token {
        None if !is_loopback => return Some(NO_TOKEN),
        None if !host.as_ref().is_some_and(is_this_machine) => return Some(FOREIGN_HOST),
        Some(token) if !carries(headers, token) => return Some(WRONG_TOKEN),
        _ => {}
    }
    let is_same = |origin: &str| {
        let site = origin.split_once("://").and_then(|(_, authority)| authority.parse::<Authority>().ok());
        site.is_some() && site == host
    };
    let has_origin = headers.contains_key(ORIGIN);
    if has_origin && !only(headers, &ORIGIN).is_some_and(is_same) {
        return Some(FOREIGN_ORIGIN);
    }
    // `none` is what a person typed.
    let has_site = headers.contains_key(SEC_FETCH_SITE);
    if has_site && !only(headers, &SEC_FETCH_SITE).is_some_and(|site| matches!(site, "same-origin" | "none")) {
        return Some(FOREIGN_SITE);
    }
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    (token.is_none() && !is_read && (has_origin || has_site)).then_some(READ_ONLY)
}

fn carries(headers: &HeaderMap, token: &Secret) -> bool {
    let given = only(headers, &AUTHORIZATION).and_then(|text| text.split_once(' '));
    given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && token.matches(given.trim()))
}

fn is_this_machine(host: &Authority) -> bool {
    if host.as_str().contains('@') {
        return false;
    }
    let name = host.host();
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    match literal.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// The value of a header that stands there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn refused(uri: &str, headers: &[(&str, &str)], token: Option<&str>, is_loopback: bool) -> Option<&'static str> {
        refused_by(&Method::GET, uri, headers, token, is_loopback)
    }

    fn refused_by(
        method: &Method,
        uri: &str,
        headers: &[(&str, &str)],
        token: Option<&str>,
        is_loopback: bool,
    ) -> Option<&'static str> {
        let request = Request::builder().method(method).uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (parts, ()) = request.body(()).expect("a good request").into_parts();
        refusal(&parts, token.map(Secret::new).as_ref(), is_loopback)
    }

    fn on_loopback(headers: &[(&str, &str)]) -> Option<&'static str> {
        refused("/api/sessions", headers, None, true)
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        for host in ["localhost", "LocalHost:9090", "127.0.0.1:9090", "127.9.9.9", "[::1]:9090", "[::ffff:127.0.0.1]"] {
            assert_eq!(on_loopback(&[("host", host)]), None, "{host}");
        }
        for host in [
            "attacker.example",
            "attacker.example:9090",
            "localhost.attacker.example",
            "127.0.0.1.nip.io",
            "192.0.2.1:9090",
            "[2001:db8::1]",
            "127.0.0.1@attacker.example",
            "attacker.example@127.0.0.1",
            "2130706433",
            "0.0.0.0",
            "",
            " ",
        ] {
            assert_eq!(on_loopback(&[("host", host)]), Some(FOREIGN_HOST), "{host}");
        }
        assert_eq!(on_loopback(&[]), Some(FOREIGN_HOST));
        assert_eq!(on_loopback(&[("host", "localhost"), ("host", "attacker.example")]), Some(FOREIGN_HOST));
        let line = "http://attacker.example/api/sessions";
        assert_eq!(refused(line, &[("host", "localhost")], None, true), Some(FOREIGN_HOST));
    }

    #[test]
    fn pages_of_other_sites_are_refused_with_a_token_or_without() {
        let bearer = ("authorization", "Bearer hush");
        for (host, token) in [("localhost:9090", None), ("bridge.example", Some("hush"))] {
            let ask = |origin: &str| {
                let headers = [("host", host), ("origin", origin), bearer];
                refused("/api/sessions", &headers, token, token.is_none())
            };
            assert_eq!(ask(&format!("http://{host}")), None);
            assert_eq!(ask(&format!("https://{}", host.to_uppercase())), None);
            for origin in ["http://attacker.example", "null", "", "http://localhost:1", "http://[", "http://"] {
                assert_eq!(ask(origin), Some(FOREIGN_ORIGIN), "{origin}");
            }
            let twice = [("host", host), ("origin", "http://localhost:9090"), ("origin", "http://b"), bearer];
            assert_eq!(refused("/api/log", &twice, token, token.is_none()), Some(FOREIGN_ORIGIN));
        }
    }

    #[test]
    fn what_a_browser_says_of_the_page_that_asks_is_believed_with_a_token_or_without() {
        let bearer = ("authorization", "Bearer hush");
        for token in [None, Some("hush")] {
            let ask = |sites: &[&str]| {
                let mut headers = vec![("host", "localhost:9090"), bearer];
                headers.extend(sites.iter().map(|site| ("sec-fetch-site", *site)));
                refused("/api/sessions", &headers, token, true)
            };
            assert_eq!([ask(&[]), ask(&["same-origin"]), ask(&["none"])], [None; 3]);
            for site in ["same-site", "cross-site", "", "Same-Origin", "anything"] {
                assert_eq!(ask(&[site]), Some(FOREIGN_SITE), "{site}");
            }
            assert_eq!(ask(&["same-origin", "cross-site"]), Some(FOREIGN_SITE));
        }
    }

    #[test]
    fn without_a_token_pages_read_and_only_programs_change() {
        let page = [("origin", "http://localhost:9090"), ("sec-fetch-site", "same-origin")];
        for method in [Method::DELETE, Method::PUT, Method::POST] {
            let ask = |page: &[(&str, &str)], token: Option<&str>| {
                let headers = [&[("host", "localhost:9090"), ("authorization", "Bearer hush")], page].concat();
                refused_by(&method, "/api/sessions/device1", &headers, token, true)
            };
            assert_eq!([ask(&[], None), ask(&[], Some("hush")), ask(&page, Some("hush"))], [None; 3], "{method}");
            for headers in [&page[..], &page[..1], &page[1..], &[("sec-fetch-site", "none")]] {
                assert_eq!(ask(headers, None), Some(READ_ONLY), "{method} {headers:?}");
            }
        }
        let headers = [[("host", "localhost:9090")].as_slice(), &page].concat();
        assert_eq!(refused("/api/sessions", &headers, None, true), None);
    }

    #[test]
    fn with_a_token_it_decides_and_not_the_name() {
        let ask = |headers: &[(&str, &str)], is_loopback| refused("/api/log", headers, Some("hush"), is_loopback);
        for is_loopback in [true, false] {
            let bearer = ("authorization", "bearer hush");
            assert_eq!(ask(&[("host", "bridge.example:9090"), bearer], is_loopback), None);
            assert_eq!(ask(&[bearer], is_loopback), None);
            for header in ["Bearer hus", "Basic hush", "hush", "Bearer ", "Bearer"] {
                let headers = [("host", "localhost"), ("authorization", header)];
                assert_eq!(ask(&headers, is_loopback), Some(WRONG_TOKEN), "{header}");
            }
            assert_eq!(ask(&[("host", "localhost")], is_loopback), Some(WRONG_TOKEN));
            assert_eq!(ask(&[bearer, ("authorization", "Bearer other")], is_loopback), Some(WRONG_TOKEN));
        }
        assert_eq!(refused("/api/log", &[("host", "localhost")], None, false), Some(NO_TOKEN));
    }
}
