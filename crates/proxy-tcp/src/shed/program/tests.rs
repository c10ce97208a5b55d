use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A segment with as much of its headers as a program may look at.
struct Segment {
    network: Vec<u8>,
    tcp: [u8; 20],
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn segment(source: IpAddr, flags: u8) -> Segment {
    let network = match source {
        IpAddr::V4(v4) => {
            let mut header = vec![0; 20];
            header[0] = 0x45;
            header[12..16].copy_from_slice(&v4.octets());
            header
        }
        IpAddr::V6(v6) => {
            let mut header = vec![0; 40];
            header[0] = 0x60;
            header[8..24].copy_from_slice(&v6.octets());
            header
        }
    };
    let mut tcp = [0; 20];
    tcp[13] = flags;
    Segment { network, tcp }
}

/// What the kernel does with a program, for the instructions that are used.
fn drops(program: &Program, segment: &Segment) -> bool {
    let byte = |at: u32| match at.checked_sub(NETWORK) {
        Some(offset) => segment.network[offset as usize],
        None => segment.tcp[at as usize],
    };
    let (mut at, mut value) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program.instructions[at];
        at += 1;
        match code {
            LOAD_BYTE => value = byte(k).into(),
            LOAD_WORD => value = u32::from_be_bytes([0, 1, 2, 3].map(|offset| byte(k + offset))),
            AND => value &= k,
            JUMP => at += k as usize,
            IF_EQUAL => at += usize::from(if value == k { jt } else { jf }),
            IF_NOT_LESS => at += usize::from(if value >= k { jt } else { jf }),
            RETURN => return k == 0,
            other => panic!("{other:#x} is no instruction"),
        }
    }
}

fn program(clients: &BTreeSet<ClientKey>, prefixes: Prefixes) -> Program {
    Program::new(&clients.iter().copied().collect::<Vec<_>>(), prefixes)
}

#[test]
fn only_what_opens_a_connection_is_dropped() {
    let source = IpAddr::from([192, 0, 2, 1]);
    let program = program(&BTreeSet::from([Prefixes::default().key(source)]), Prefixes::default());
    for (flags, dropped) in [(SYN, true), (SYN | ACK, false), (ACK, false), (0x04, false), (SYN | 0xc0, true)] {
        assert_eq!(drops(&program, &segment(source, flags)), dropped, "{flags:#x}");
    }
    assert!(!drops(&program, &segment(IpAddr::from([192, 0, 2, 2]), SYN)));
}

#[test]
fn nobody_needs_no_program() {
    assert_eq!(Program::new(&[], Prefixes::default()), Program::default());
}

#[test]
fn an_ipv4_client_behind_nat64_is_the_same_client() {
    let program = program(&BTreeSet::from([ClientKey::V4(0xc000_0201)]), Prefixes::default());
    for (source, dropped) in [
        ("192.0.2.1", true),
        ("64:ff9b::c000:201", true),
        ("64:ff9b::c000:202", false),
        ("64:ff9b:0:1::c000:201", false),
        ("64:ff9b::1:c000:201", false),
        ("64:ff9b:1::c000:201", false),
    ] {
        assert_eq!(drops(&program, &segment(source.parse().unwrap(), SYN)), dropped, "{source}");
    }
}

#[test]
fn thousands_of_clients_fit_and_the_rest_is_left_out() {
    let spread = |index: u32| index.wrapping_mul(0x9e37_79b9);
    let v4: BTreeSet<_> = (0..5000).map(|index| ClientKey::V4(spread(index))).collect();
    let v6: BTreeSet<_> = (0..5000).map(|index| ClientKey::V6(u64::from(spread(index)) << 32 | 7)).collect();
    for (clients, least) in [(&v4, 3000), (&v6, 600)] {
        let program = program(clients, Prefixes::default());
        assert!(program.instructions.len() <= MOST);
        assert!(program.clients >= least, "{} clients", program.clients);
        for (index, client) in clients.iter().enumerate() {
            let dropped = drops(&program, &segment(client.network(), SYN));
            assert_eq!(dropped, index < program.clients, "{client}");
        }
    }
}

/// Addresses that lie close together, so that near misses are common.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = prop_oneof![0u32..4, 0xc000_0200u32..0xc000_0204, any::<u32>()];
    let high = prop_oneof![
        0u64..3,
        Just(0x0064_ff9b_0000_0000),
        0x2001_0db8_0000_0000u64..0x2001_0db8_0000_0004,
        any::<u64>()
    ];
    let low = prop_oneof![0u64..3, 0xc000_0200u64..0xc000_0204, any::<u64>()];
    prop_oneof![
        v4.prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        (high, low).prop_map(|(high, low)| Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into()),
    ]
}

proptest! {
    #[test]
    fn exactly_the_clients_of_the_list_are_dropped(
        listed in prop::collection::vec(address(), 0..400),
        others in prop::collection::vec(address(), 0..100),
        lengths in (1u8..=32, 1u8..=64),
        flags in any::<u8>(),
    ) {
        let prefixes = Prefixes::new(lengths.0, lengths.1).unwrap();
        let clients: BTreeSet<_> = listed.iter().map(|address| prefixes.key(*address)).collect();
        let program = program(&clients, prefixes);
        prop_assert_eq!(program.clients, clients.len());
        if !clients.is_empty() {
            for address in listed.iter().chain(&others) {
                let opens = flags & (SYN | ACK) == SYN;
                let expected = opens && clients.contains(&prefixes.key(*address));
                prop_assert_eq!(drops(&program, &segment(*address, flags)), expected, "{}", address);
            }
        }
    }
}
