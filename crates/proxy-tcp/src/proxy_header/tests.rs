use super::*;
use proptest::prelude::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn v2(kind: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [GREETING_V2, &[kind, family], &length, content].concat()
}

#[test]
fn what_is_written_is_read_at_every_split() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        for (source, destination) in [("203.0.113.7:4711", "192.0.2.1:443"), ("[2001:db8::7]:65535", "[2001:db8::1]:1")]
        {
            let (source, destination) = (address(source), address(destination));
            let header = proxy_header(version, source, destination);
            let named = Named { length: header.len(), addresses: Some((source, destination)) };
            for split in 0..header.len() {
                assert_eq!(parse(&header[..split]), Ok(None), "{version:?} {split}");
            }
            assert_eq!(parse(&header), Ok(Some(named)));
            assert_eq!(parse(&[&header, &b"payload"[..]].concat()), Ok(Some(named)));
        }
    }
}

#[test]
fn both_addresses_are_of_one_family() {
    for (source, destination, expected) in [
        ("[::ffff:203.0.113.7]:1", "192.0.2.1:2", "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n"),
        ("203.0.113.7:1", "[2001:db8::1]:2", "PROXY TCP6 ::ffff:203.0.113.7 2001:db8::1 1 2\r\n"),
        ("[2001:db8::1]:1", "192.0.2.1:2", "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 2\r\n"),
    ] {
        assert_eq!(proxy_header(ProxyVersion::V1, address(source), address(destination)), expected);
        let binary = proxy_header(ProxyVersion::V2, address(source), address(destination));
        let named = parse(&binary).unwrap().unwrap().addresses.unwrap();
        assert_eq!(named.0.is_ipv4(), expected.contains("TCP4"));
    }
}

#[test]
fn a_peer_may_speak_for_itself() {
    for (header, extra) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), "v1"),
        (b"PROXY UNKNOWN ::1 ::1 1 2\r\n".to_vec(), "v1 with addresses"),
        (v2(0x20, 0, &[]), "v2 local"),
        (v2(0x20, 0x11, &[1; 12]), "v2 local with addresses"),
        (v2(0x21, 0, &[4, 0, 1, 0]), "v2 unspecified with a field"),
    ] {
        assert_eq!(parse(&header), Ok(Some(Named { length: header.len(), addresses: None })), "{extra}");
    }
}

#[test]
fn what_is_no_header_is_seen_at_once() {
    for (bytes, what) in [
        (b"G".to_vec(), "another protocol"),
        (b"PROXZ".to_vec(), "nearly"),
        (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "another family"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n".to_vec(), "no port"),
        ([b"PROXY TCP4 ".to_vec(), vec![b'1'; 100]].concat(), "an endless line"),
        (v2(0x31, 0x11, &[1; 12]), "another version"),
        (v2(0x21, 0x11, &[1; 4]), "addresses cut short"),
        (v2(0x21, 0x12, &[1; 12]), "datagrams"),
        (v2(0x21, 0x11, &[1; LIMIT]), "too long"),
    ] {
        assert_eq!(parse(&bytes), Err(NoHeader), "{what}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        greeting in prop::sample::select(vec![&b""[..], GREETING_V1, GREETING_V2, b"PROXY TCP4 "]),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let whole = [greeting, &bytes].concat();
        if let Ok(Some(named)) = parse(&whole) {
            prop_assert!(named.length <= whole.len());
        }
    }
}
