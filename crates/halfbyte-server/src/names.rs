//! Names of machines and web sites in the server's options, in the form that browsers send them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::Uri;

use crate::server::ServeError;

/// A web site whose pages may use the server: `scheme://host[:port]`, or `*` for all.
///
/// ```
/// use halfbyte_server::Origin;
///
/// assert!("http://localhost:3000".parse::<Origin>().is_ok());
/// assert!("localhost:3000".parse::<Origin>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// A name that the server goes by, without scheme and port: `halfbyte.example`.
///
/// ```
/// use halfbyte_server::HostName;
///
/// assert!("halfbyte.example".parse::<HostName>().is_ok());
/// assert!("halfbyte.example:8080".parse::<HostName>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl Origin {
    /// What stands in a request's `Origin`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `*`.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

impl FromStr for Origin {
    type Err = ServeError;

    fn from_str(text: &str) -> Result<Self, ServeError> {
        let invalid = || ServeError::Origin { found: text.to_owned() };
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(invalid());
        };
        let scheme = scheme.to_ascii_lowercase();
        // Browsers leave out the port that a scheme has anyway.
        let port = match (scheme.as_str(), uri.port_u16()) {
            (_, None) | ("http", Some(80)) | ("https", Some(443)) => String::new(),
            (_, Some(port)) => format!(":{port}"),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let rest = authority.strip_prefix(host).ok_or_else(invalid)?;
        let is_whole = rest.is_empty() || uri.port_u16().is_some_and(|p| *rest == format!(":{p}"));
        let is_host = host.parse::<HostName>().is_ok() || host.starts_with('[');
        if !is_host || !is_whole || uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(invalid());
        }
        Ok(Self(format!("{scheme}://{}{port}", host.to_ascii_lowercase())))
    }
}

impl HostName {
    /// Whether it is `name`, which has no port.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name))
    }
}

impl FromStr for HostName {
    type Err = ServeError;

    fn from_str(text: &str) -> Result<Self, ServeError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let is_known = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
            !label.is_empty() && label.bytes().all(is_known)
        };
        if name.split('.').all(is_label) {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(ServeError::HostName { found: text.to_owned() })
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `host`, as a request names it, without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether `name` is this machine wherever it is looked up, or an address, which is not looked up.
pub(crate) fn needs_no_lookup(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for (text, expected) in [
            ("*", Some("*")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://Good.Example/", Some("http://good.example")),
            ("HTTPS://good.example:443", Some("https://good.example")),
            ("http://good.example:443", Some("http://good.example:443")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("chrome-extension://abcdef", Some("chrome-extension://abcdef")),
            ("", None),
            ("localhost", None),
            ("localhost:3000", None),
            ("//localhost", None),
            ("http://", None),
            ("http://*", None),
            ("http://localhost:*", None),
            ("http://localhost:", None),
            ("http://localhost:70000", None),
            ("http://localhost/page", None),
            ("http://localhost?x", None),
            ("http://me@localhost", None),
            ("http://münchen.example", None),
            ("http://a.example, http://b.example", None),
            ("null", None),
        ] {
            let found = text.parse::<Origin>().ok();
            assert_eq!(found.as_ref().map(Origin::as_str), expected, "{text}");
        }
    }

    #[test]
    fn names_have_neither_schemes_nor_ports() {
        for (text, is_name) in [
            ("halfbyte.example", true),
            ("Halfbyte.Example.", true),
            ("my_box", true),
            ("192.168.0.1", true),
            ("", false),
            (".", false),
            ("a..b", false),
            ("*.example", false),
            ("halfbyte.example:8080", false),
            ("http://halfbyte.example", false),
            ("münchen.example", false),
        ] {
            assert_eq!(text.parse::<HostName>().is_ok(), is_name, "{text}");
        }
        let name: HostName = "Halfbyte.Example.".parse().expect("a name");
        assert!(name.is("halfbyte.EXAMPLE") && name.is("halfbyte.example."));
        assert!(!name.is("other.halfbyte.example") && !name.is(""));
    }

    #[test]
    fn addresses_and_localhost_need_no_lookup() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:1", true),
            ("192.168.0.1", true),
            ("[::1]:8080", true),
            ("[2001:db8::1]", true),
            ("example.com:8080", false),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com", false),
            ("", false),
        ] {
            assert_eq!(needs_no_lookup(without_port(host)), expected, "{host}");
        }
    }
}
