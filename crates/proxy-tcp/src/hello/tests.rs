use super::*;
use proptest::prelude::*;

#[path = "../../tests/support/hello.rs"]
mod made;
use made::modern;

/// The body of a hello made by hand.
fn body(version: u16, extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0, 5, 1, 0]);
    if let Some(extensions) = extensions {
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
    }
    body
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&kind.to_be_bytes(), &length, content].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap();
    let list = (length + 3).to_be_bytes();
    extension(SERVER_NAME, &[&list, &[0][..], &length.to_be_bytes(), name].concat())
}

/// A handshake message in records of at most `size` bytes.
fn records(record_version: u16, body: &[u8], size: usize) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[CLIENT_HELLO], &length[1..], body].concat();
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[TLS_HANDSHAKE], &record_version.to_be_bytes()[..], &length, part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

fn read(bytes: &[u8]) -> HelloProgress {
    HelloReader::new().read(bytes)
}

fn hello(sni: Option<&str>, version: Option<TlsVersion>) -> HelloProgress {
    HelloProgress::Hello(ClientHello { sni: sni.map(str::to_owned), version })
}

#[test]
fn reads_what_rustls_sends() {
    let both = [&rustls::version::TLS13, &rustls::version::TLS12];
    assert_eq!(read(&modern("shop.test", &both)), hello(Some("shop.test"), Some(TlsVersion::V1_3)));
    assert_eq!(read(&modern("SHOP.test", &both[1..])), hello(Some("shop.test"), Some(TlsVersion::V1_2)));
    assert_eq!(read(&modern("192.0.2.1", &both)), hello(None, Some(TlsVersion::V1_3)));
}

#[test]
fn takes_what_a_modern_server_would_not() {
    let named = sni(b"Old.Test.");
    for (record, version, expected) in [
        (0x0300, 0x0300, None),
        (0x0300, 0x0301, Some(TlsVersion::V1_0)),
        (0x0301, 0x0302, Some(TlsVersion::V1_1)),
        (0x0303, 0x0303, Some(TlsVersion::V1_2)),
        (0x03ff, 0x0399, Some(TlsVersion::V1_2)),
    ] {
        let with = records(record, &body(version, Some(&named)), 999);
        assert_eq!(read(&with), hello(Some("old.test"), expected), "{version:x}");
        let without = records(record, &body(version, None), 999);
        assert_eq!(read(&without), hello(None, expected), "{version:x}");
    }
}

#[test]
fn only_host_names_count_as_names() {
    let long = [b"a".repeat(60), b"b".repeat(60), b"c".repeat(60), b"d".repeat(60)].join(&b'.');
    let longer = [&long[..], b".eeeeeeeeeeee"].concat();
    for (name, expected) in [
        (&b"shop.test"[..], Some("shop.test")),
        (b"_dmarc.xn--bcher-kva.test", Some("_dmarc.xn--bcher-kva.test")),
        (&long, Some(std::str::from_utf8(&long).unwrap())),
        (&longer, None),
        (b"", None),
        (b".", None),
        (b"a..b", None),
        (b"192.0.2.1", None),
        (b"::1", None),
        (b"shop test", None),
        (b"shop\0.test", None),
        ("bücher.test".as_bytes(), None),
        (b"\xff\xfe", None),
    ] {
        let bytes = records(0x0301, &body(0x0301, Some(&sni(name))), 999);
        assert_eq!(read(&bytes), hello(expected, Some(TlsVersion::V1_0)), "{name:?}");
    }
}

#[test]
fn the_best_known_version_counts() {
    for (offered, expected) in [
        (&[6, 0x7a, 0x7a, 3, 4, 3, 3][..], Some(TlsVersion::V1_3)),
        (&[4, 3, 1, 3, 2], Some(TlsVersion::V1_1)),
        (&[2, 0x7f, 0x1c], None),
        (&[0], None),
    ] {
        let bytes = records(0x0301, &body(0x0303, Some(&extension(SUPPORTED_VERSIONS, offered))), 999);
        assert_eq!(read(&bytes), hello(None, expected), "{offered:?}");
    }
}

#[test]
fn what_does_not_hold_together_is_malformed() {
    let twice = [sni(b"a.test"), sni(b"b.test")].concat();
    let cut = extension(SERVER_NAME, &[0, 9, 0, 0, 9, b'a']);
    let mut short = body(0x0301, Some(&sni(b"a.test")));
    short.truncate(50);
    let mut not_hello = records(0x0301, &body(0x0301, None), 999);
    not_hello[5] = 2;
    for (what, bytes) in [
        ("two names", records(0x0301, &body(0x0301, Some(&twice)), 999)),
        ("a list longer than its extension", records(0x0301, &body(0x0301, Some(&cut)), 999)),
        ("an extension longer than the hello", records(0x0301, &short, 999)),
        ("a server hello", not_hello),
        ("an empty record", vec![0x16, 3, 1, 0, 0]),
        ("an oversized record", vec![0x16, 3, 1, 0x40, 1]),
        ("an alert", vec![0x15, 3, 1, 0, 2]),
        ("another protocol", vec![0x16, 9]),
        ("an alert after half a hello", [&records(0x0301, &body(0x0301, None), 20)[..25], &[0x15]].concat()),
    ] {
        assert_eq!(read(&bytes), HelloProgress::Malformed, "{what}");
    }
}

#[test]
fn what_is_too_long_is_not_waited_for() {
    let announced = [0x16, 3, 1, 0, 4, 1, 0, 0x40, 0];
    assert_eq!(read(&announced), HelloProgress::TooLarge);
    let padding = extension(21, &[0; HelloReader::LIMIT - 200]);
    let fits = body(0x0301, Some(&padding));
    assert_eq!(read(&records(0x0301, &fits, 1 << 14)), hello(None, Some(TlsVersion::V1_0)));
    let spread = records(0x0301, &fits, 8);
    assert_eq!(read(&spread), HelloProgress::TooLarge, "record headers count too");
    assert_eq!(read(&spread[..HelloReader::LIMIT - 1]), HelloProgress::Partial);
}

#[test]
fn every_split_of_a_hello_gives_the_same() {
    let whole = modern("shop.test", &[&rustls::version::TLS13, &rustls::version::TLS12]);
    let expected = read(&whole);
    for split in 0..whole.len() {
        let mut reader = HelloReader::new();
        assert_eq!(reader.read(&whole[..split]), HelloProgress::Partial, "{split}");
        assert_eq!(reader.read(&whole), expected, "{split}");
    }
}

proptest! {
    #[test]
    fn records_and_segments_of_any_size_give_the_same(
        size in 1_usize..600,
        mut cuts in proptest::collection::vec(0_usize..4000, 0..20),
        name in "[a-z]{1,20}\\.test",
    ) {
        let whole = records(0x0301, &body(0x0302, Some(&sni(name.as_bytes()))), size);
        cuts.retain(|&cut| cut < whole.len());
        cuts.sort_unstable();
        let mut reader = HelloReader::new();
        for cut in cuts {
            prop_assert_eq!(reader.read(&whole[..cut]), HelloProgress::Partial);
        }
        prop_assert_eq!(reader.read(&whole), hello(Some(&name), Some(TlsVersion::V1_1)));
    }

    #[test]
    fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
        let mut reader = HelloReader::new();
        reader.read(&bytes[..cut.min(bytes.len())]);
        reader.read(&bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(
        damage in proptest::collection::vec((0_usize..2000, any::<u8>()), 1..8),
        size in 20_usize..2000,
    ) {
        let extensions = [sni(b"shop.test"), extension(SUPPORTED_VERSIONS, &[4, 3, 4, 3, 3])].concat();
        let mut bytes = records(0x0301, &body(0x0303, Some(&extensions)), size);
        for (place, byte) in damage {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        read(&bytes);
    }
}
