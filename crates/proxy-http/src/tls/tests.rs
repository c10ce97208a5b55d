use super::choice::Choice;
use super::{TlsBackends, TlsPorts, TlsShared, certificate};
use conn_tracker::RouteId;
use proxy_route::{
    Action, Certificate, Forward, Match, PemSource, PortRange, Respond, Route, RouteTable, Settings, Target,
    TargetPort, TlsMode, TlsVersion,
};
use rcgen::{KeyPair, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use std::path::PathBuf;
use std::sync::Arc;

/// A certificate for these names, its key, and the certificate alone in DER.
fn certificate_for(names: &[&str]) -> (Certificate, rustls::pki_types::CertificateDer<'static>) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = generate_simple_self_signed(names).unwrap();
    let certificate = Certificate {
        domains: Vec::new(),
        chain: PemSource::Inline(made.cert.pem()),
        key: PemSource::Inline(made.signing_key.serialize_pem()),
    };
    (certificate, made.cert.der().clone())
}

fn table(routes: impl IntoIterator<Item = Route>) -> RouteTable {
    let routes = routes.into_iter().enumerate();
    RouteTable::new(routes.map(|(index, route)| (RouteId::new(u32::try_from(index).unwrap()).unwrap(), route))).unwrap()
}

fn route(name: &str, port: u16, domains: &[&str], certificate: Option<Certificate>) -> Route {
    let mut route = Route::new(name, Action::Respond(Respond { status: 200, headers: vec![], body: String::new() }));
    route.matching = Match {
        ports: vec![PortRange::single(port)],
        domains: domains.iter().map(|domain| domain.parse().unwrap()).collect(),
        ..Match::default()
    };
    route.tls = Some(TlsMode::Terminate);
    route.certificate = certificate;
    route
}

/// What a client saw.
#[derive(Debug)]
struct Shaken {
    shown: Vec<u8>,
    kind: HandshakeKind,
    alpn: Option<Vec<u8>>,
}

/// Shakes hands in memory.
fn handshake(
    ports: &TlsPorts,
    port: u16,
    client: &Arc<ClientConfig>,
    name: &'static str,
) -> Result<Shaken, rustls::Error> {
    let mut server = rustls::ServerConnection::new(Arc::clone(ports.config(port).unwrap()))?;
    let mut client = rustls::ClientConnection::new(Arc::clone(client), ServerName::try_from(name).unwrap())?;
    let mut bytes = Vec::new();
    for _ in 0..8 {
        bytes.clear();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(Shaken {
        shown: client.peer_certificates().unwrap()[0].to_vec(),
        kind: client.handshake_kind().unwrap(),
        alpn: client.alpn_protocol().map(<[u8]>::to_vec),
    })
}

fn client(shared: &TlsShared, trusts: &[&rustls::pki_types::CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in trusts {
        roots.add((*root).clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&shared.provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    Arc::new(config)
}

#[test]
fn a_name_finds_its_certificate_then_its_wildcard_then_the_first() {
    let shared = TlsShared::new().unwrap();
    let load = |names: &[&str], domains: &[&str]| {
        let mut certificate = certificate_for(names).0;
        certificate.domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        certificate::load(&certificate, &[], &"test", &shared.provider).unwrap()
    };
    let all = [
        load(&["first.test"], &[]),
        load(&["*.shop.test"], &[]),
        load(&["a.shop.test"], &[]),
        load(&["other.test"], &["Given.Test."]),
        load(&["first.test"], &[]),
    ];
    let choice = Choice::new(&all).unwrap();
    for (name, index) in [
        (Some("first.test"), 0),
        (Some("a.shop.test"), 2),
        (Some("A.Shop.Test"), 2),
        (Some("b.shop.test"), 1),
        (Some("b.c.shop.test"), 0),
        (Some("shop.test"), 0),
        (Some("given.test"), 3),
        (Some("other.test"), 0),
        (Some("nowhere"), 0),
        (None, 0),
    ] {
        let position = all.iter().position(|loaded| Arc::ptr_eq(&loaded.key, choice.by_name(name)));
        assert_eq!(position, Some(index), "{name:?}");
    }
    assert!(Choice::new(&[]).is_none());
}

#[test]
fn each_port_shows_the_certificates_of_its_routes_and_of_the_settings() {
    let shared = TlsShared::new().unwrap();
    let (shop, shop_root) = certificate_for(&["shop.test"]);
    let (blog, blog_root) = certificate_for(&["blog.test"]);
    let (general, general_root) = certificate_for(&["general.test"]);
    let mut settings = Settings::default();
    settings.tls.certificates = vec![general];
    let table = table([
        route("shop", 443, &["shop.test"], Some(shop)),
        route("blog", 8443, &["*"], Some(blog)),
        route("bare", 9443, &[], None),
    ]);
    let ports = TlsPorts::new(&settings, &table, &shared).unwrap();
    let client = || client(&shared, &[&shop_root, &blog_root, &general_root]);
    for (port, name, root) in [
        (443, "shop.test", &shop_root),
        (443, "general.test", &general_root),
        (8443, "blog.test", &blog_root),
        (9443, "general.test", &general_root),
    ] {
        let Shaken { shown, alpn, .. } = handshake(&ports, port, &client(), name).unwrap();
        assert_eq!(shown, root.to_vec(), "{port} {name}");
        assert_eq!(alpn.as_deref(), Some(&b"h2"[..]), "the order is ours");
    }
    assert!(handshake(&ports, 443, &client(), "blog.test").is_err(), "another port's certificate is not shown");
    assert!(ports.config(80).is_none());
}

#[test]
fn a_session_is_resumed_after_a_reload() {
    let shared = TlsShared::new().unwrap();
    let (shop, root) = certificate_for(&["shop.test"]);
    let table = table([route("shop", 443, &[], Some(shop))]);
    let client = client(&shared, &[&root]);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let ports = TlsPorts::new(&Settings::default(), &table, &shared).unwrap();
        assert_eq!(handshake(&ports, 443, &client, "shop.test").unwrap().kind, kind);
    }
}

#[test]
fn the_oldest_version_is_kept_to() {
    let shared = TlsShared::new().unwrap();
    let (shop, root) = certificate_for(&["shop.test"]);
    let table = table([route("shop", 443, &[], Some(shop))]);
    let mut old = ClientConfig::builder_with_provider(Arc::clone(&shared.provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates({
            let mut roots = RootCertStore::empty();
            roots.add(root).unwrap();
            roots
        })
        .with_no_client_auth();
    old.alpn_protocols = vec![b"h2".to_vec()];
    let old = Arc::new(old);
    let mut settings = Settings::default();
    assert!(handshake(&TlsPorts::new(&settings, &table, &shared).unwrap(), 443, &old, "shop.test").is_ok());
    settings.tls.min_version = TlsVersion::V1_3;
    assert!(handshake(&TlsPorts::new(&settings, &table, &shared).unwrap(), 443, &old, "shop.test").is_err());
}

#[test]
fn what_cannot_be_offered_is_said_with_the_remedy() {
    let shared = TlsShared::new().unwrap();
    let (good, _) = certificate_for(&["shop.test"]);
    let other_key = PemSource::Inline(KeyPair::generate().unwrap().serialize_pem());
    let file = |name: &str| PemSource::File(PathBuf::from(name));
    let inline = |text: &str| PemSource::Inline(text.to_owned());
    let cases = [
        (None, vec!["port 443", "\"shop\"", "tls.certificates"]),
        (Some(Certificate { key: other_key, ..good.clone() }), vec!["route \"shop\"", "does not belong to", "leaf"]),
        (Some(Certificate { chain: file("/nowhere/a.pem"), ..good.clone() }), vec!["/nowhere/a.pem", "check the path"]),
        (Some(Certificate { key: file("/nowhere/a.key"), ..good.clone() }), vec!["private key", "/nowhere/a.key"]),
        (Some(Certificate { chain: inline("nothing"), ..good.clone() }), vec!["BEGIN CERTIFICATE", "PEM"]),
        (Some(Certificate { key: good.chain.clone(), ..good.clone() }), vec!["BEGIN PRIVATE KEY", "passphrase"]),
    ];
    for (certificate, words) in cases {
        let table = table([route("shop", 443, &[], certificate)]);
        let error = TlsPorts::new(&Settings::default(), &table, &shared).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
        assert!(!error.contains("BEGIN PRIVATE KEY-"), "{error}");
    }

    let table = table([route("shop", 443, &[], Some(good))]);
    let mut settings = Settings::default();
    settings.tls.alpn = vec!["h3".to_owned()];
    assert!(TlsPorts::new(&settings, &table, &shared).unwrap_err().to_string().contains("\"h3\" is not spoken"));
    settings.tls = proxy_route::TlsSettings { min_version: TlsVersion::V1_0, ..Default::default() };
    assert!(TlsPorts::new(&settings, &table, &shared).unwrap_err().to_string().contains("TLSv1.2"));
}

#[test]
fn backends_that_cannot_be_verified_are_said_with_the_remedy() {
    let shared = TlsShared::new().unwrap();
    let with = |change: &dyn Fn(&mut Forward)| {
        let target = Target::new("10.0.0.1", TargetPort::Fixed(443));
        let mut forward = Forward::new(vec![target]);
        forward.backend_tls.insecure_skip_verify = true;
        change(&mut forward);
        let mut route = route("shop", 443, &[], None);
        route.action = Action::Forward(Box::new(forward));
        route.tls = Some(TlsMode::TerminateAndReencrypt);
        TlsBackends::new(&table([route]), &shared).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with(&|_| {}), Ok(()), "an address can be verified");
    for (change, words) in [
        (
            &(|forward: &mut Forward| forward.backend_tls.server_name = Some("a b".into())) as &dyn Fn(&mut Forward),
            "serverName \"a b\"",
        ),
        (&|forward: &mut Forward| forward.targets[0].host = "a_/b".into(), "give backendTls.serverName"),
        (
            &|forward: &mut Forward| {
                forward.backend_tls.insecure_skip_verify = false;
                forward.backend_tls.ca = Some("/nowhere/ca.pem".into());
            },
            "backendTls.ca /nowhere/ca.pem cannot be used",
        ),
    ] {
        let error = with(change).unwrap_err();
        assert!(error.contains(words) && error.contains("route \"shop\""), "{error}");
    }
}
