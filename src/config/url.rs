//! Addresses of servers that may carry a user and a password.

use std::fmt;

/// A URL as configured. `Debug` and `Display` hide user and password, before `@`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// Takes `scheme://[user[:password]@]host[:port][/…]` when the scheme is one of `schemes`.
    ///
    /// Without a scheme the first of `schemes` is put in front when `may_lack_scheme` says so. `None`: not such a text.
    pub fn parse(text: &str, schemes: &[&str], may_lack_scheme: bool) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            None if may_lack_scheme => (*schemes.first()?, text),
            None => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let well_formed =
            schemes.contains(&scheme) && !rest.contains(|c: char| c.is_whitespace() || c.is_control()) && is_host(host);
        well_formed.then(|| Self(format!("{scheme}://{rest}")))
    }

    /// Whether a path can be appended: there is no user, no query and no fragment.
    pub(super) fn is_base(&self) -> bool {
        !self.0.contains(['@', '?', '#'])
    }

    /// The URL with user and password; for the client that connects, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whether a text is `host` or `host:port`, an IPv6 address in brackets included.
pub(super) fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bare = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    bare && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// The text with what stands between `://` and `@` replaced.
pub(super) fn hide_user(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    match text[start..end].rfind('@') {
        Some(at) => format!("{}***{}", &text[..start], &text[start + at..]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_user(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&hide_user(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_hides_user_and_password() {
        let url = Url::parse("nats://u:p@nats:4222", &["nats", "tls"], true).map(|url| (url.to_string(), url));
        let (shown, url) = url.unwrap();
        assert_eq!(shown, "nats://***@nats:4222");
        assert_eq!(format!("{url:?}"), "\"nats://***@nats:4222\"");
        assert_eq!(url.expose(), "nats://u:p@nats:4222");
    }

    #[test]
    fn a_scheme_is_added_only_where_it_may_lack() {
        let exposed = |may| Url::parse("nats:4222", &["nats"], may).map(|url| url.expose().to_owned());
        assert_eq!((exposed(true), exposed(false)), (Some("nats://nats:4222".to_owned()), None));
    }

    #[test]
    fn other_schemes_empty_hosts_and_bad_ports_are_no_urls() {
        for text in
            ["http://a", "nats://", "nats://a:0", "nats://a:99999", "nats://a b", "nats://u@", "nats://[::1", ""]
        {
            assert_eq!(Url::parse(text, &["nats"], true), None, "{text}");
        }
        assert!(Url::parse("nats://[::1]:4222", &["nats"], false).is_some());
    }
}
