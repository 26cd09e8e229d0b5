//! Who may ask: keys, names of the server, origins of pages.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::client::{Connection, Reply, Running};

fn ask(address: SocketAddr, path: &str, headers: &str) -> Reply {
    let mut connection = Connection::open(address);
    connection.send(format!("GET {path} HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes());
    connection.reply().expect("an answer")
}

#[test]
fn keys_hosts_and_origins_are_looked_at() {
    let server = Running::start(|options| {
        options.api_key = Some("secret".to_owned());
        options.cors_origins = vec!["http://good.example".parse().expect("an origin")];
    });
    let key = "Authorization: Bearer secret";
    for (path, headers, status) in [
        ("/v1/models", "Host: localhost", 401),
        ("/v1/models", "Host: localhost\r\nAuthorization: Bearer secreT", 401),
        ("/v1/models", "Host: localhost\r\nAuthorization: Bearer secretx", 401),
        ("/v1/models", "Host: localhost\r\nAuthorization: Basic secret", 401),
        ("/v1/models", &format!("Host: localhost\r\n{key}"), 200),
        ("/metrics", "Host: localhost", 401),
        ("/nowhere", "Host: localhost", 401),
        ("/health", "Host: localhost", 200),
        ("/", "Host: localhost", 200),
        ("/health", "Host: evil.example", 403),
        ("/health", "Host: 127.0.0.1:80", 200),
        ("/health", "Host: 192.168.0.1:80", 200),
        ("/health", "Host: \u{fc}", 403),
        ("/health", "Accept: */*", 200),
        ("/health", "Host: localhost:81\r\nOrigin: http://localhost:81", 200),
        ("/health", "Host: localhost:81\r\nOrigin: http://localhost:82", 403),
        ("/health", "Host: localhost\r\nOrigin: http://evil.example", 403),
        ("/health", "Host: localhost\r\nOrigin: null", 403),
        ("/health", "Host: localhost\r\nOrigin: http://good.example", 200),
    ] {
        let reply = ask(server.address, path, headers);
        assert_eq!(reply.status, status, "{path} {headers}: {}", reply.text());
        let allowed = reply.header("access-control-allow-origin");
        assert_eq!(allowed.is_some(), headers.contains("good.example"), "{path} {headers}");
    }
    let mut connection = Connection::open(server.address);
    let preflight = "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://good.example\r\n\
                     Access-Control-Request-Method: GET\r\n\r\n";
    connection.send(preflight.as_bytes());
    let reply = connection.reply().unwrap();
    assert_eq!(reply.header("access-control-allow-origin"), Some("http://good.example"));
}

#[test]
fn a_server_for_others_is_called_by_its_own_names_only() {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let open = Running::start(|options| {
        options.address.set_ip(everywhere);
        options.allowed_hosts = vec!["Halfbyte.Example".parse().expect("a name")];
    });
    let closed = Running::start(|options| {
        options.address.set_ip(everywhere);
        options.api_key = Some("secret".to_owned());
    });
    let local = Running::start(|options| {
        options.allowed_hosts = vec!["halfbyte.example".parse().expect("a name")];
    });
    let rebound = "Host: evil.example:8080\r\nOrigin: http://evil.example:8080";
    for (server, headers, status) in [
        (&open, "Host: 192.168.0.1:8080", 200),
        (&open, "Host: [2001:db8::1]:8080", 200),
        (&open, "Host: localhost", 200),
        (&open, "Host: halfbyte.example:8080", 200),
        (&open, "Host: halfbyte.example.", 200),
        (&open, "Host: other.halfbyte.example", 403),
        (&open, "Host: evil.example", 403),
        (&open, rebound, 403),
        (&local, "Host: halfbyte.example", 200),
        (&local, rebound, 403),
        // Nobody gets anywhere without the key, whatever he calls the server.
        (&closed, rebound, 401),
        (&closed, "Host: any.example\r\nAuthorization: Bearer secret", 200),
    ] {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), server.address.port());
        let reply = ask(address, "/v1/models", headers);
        assert_eq!(reply.status, status, "{headers}: {}", reply.text());
        let told = reply.text().contains("--allowed-host");
        assert_eq!(told, status == 403, "{headers}: {}", reply.text());
    }
}
