//! The program of classic BPF that drops the connection attempts of some clients, and nothing else.
//!
//! It sees every segment that reaches a listener. One that opens a connection (SYN without ACK) is dropped if its source
//! belongs to a client of the list; everything else passes. Jumps lead forward only, and each piece of the program ends by
//! itself, so that pieces are put together without knowing where they will stand.

use conn_tracker::{ClientKey, Prefixes};

/// One instruction of classic BPF, as `struct sock_filter` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    /// How many instructions are skipped if the condition holds, and if not.
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// A program, and how many clients it drops. Without clients it is empty, and there is nothing to attach.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) clients: usize,
}

/// As many instructions as the kernel takes.
pub(crate) const MOST: usize = 4096;

pub(crate) const LOAD_WORD: u16 = 0x20;
pub(crate) const LOAD_BYTE: u16 = 0x30;
pub(crate) const AND: u16 = 0x54;
pub(crate) const JUMP: u16 = 0x05;
pub(crate) const IF_EQUAL: u16 = 0x15;
pub(crate) const IF_NOT_LESS: u16 = 0x35;
pub(crate) const RETURN: u16 = 0x06;

/// Where the network header begins (`SKF_NET_OFF`): offsets without it count from the TCP header.
pub(crate) const NETWORK: u32 = 0xfff0_0000;

const PASS: Instruction = plain(RETURN, u32::MAX);
const DROP: Instruction = plain(RETURN, 0);

/// The upper 32 bits of the prefix of NAT64, whose 64 next bits are zero.
const NAT64: u32 = 0x0064_ff9b;

type Code = Vec<Instruction>;

impl Program {
    /// Drops as many of `clients` as fit, the first ones. They must be sorted, and keys of `prefixes`.
    pub(crate) fn new(clients: &[ClientKey], prefixes: Prefixes) -> Self {
        debug_assert!(clients.is_sorted(), "the search is binary");
        let mut clients = clients;
        while !clients.is_empty() {
            let instructions = program(clients, prefixes);
            if instructions.len() <= MOST {
                return Self { instructions, clients: clients.len() };
            }
            clients = &clients[..clients.len() * 15 / 16];
        }
        Self::default()
    }
}

fn program(clients: &[ClientKey], prefixes: Prefixes) -> Code {
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const SYN_AND_ACK: u32 = 0x12;
    let v4: Vec<_> = clients.iter().filter_map(|client| only_v4(*client)).collect();
    let v6: Vec<_> = clients.iter().filter_map(|client| only_v6(*client)).collect();
    let v4 = masked(prefixes.v4(), one_of(&v4));
    let v6 = source_v6(&v6, prefixes.v6());
    let past_v4 = u32::try_from(v4.len() + 1).expect("it is cut when it is too long");
    let mut code = vec![
        plain(LOAD_BYTE, FLAGS),
        plain(AND, SYN_AND_ACK),
        jump(IF_EQUAL, SYN, 1, 0),
        PASS,
        // The version of IP.
        plain(LOAD_BYTE, NETWORK),
        plain(AND, 0xf0),
        jump(IF_EQUAL, 0x40, 11, 0),
        jump(IF_EQUAL, 0x60, 1, 0),
        PASS,
        // An IPv4 address inside an IPv6 one is the client that it is.
        plain(LOAD_WORD, NETWORK + 8),
        jump(IF_EQUAL, NAT64, 0, 6),
        plain(LOAD_WORD, NETWORK + 12),
        jump(IF_EQUAL, 0, 0, 4),
        plain(LOAD_WORD, NETWORK + 16),
        jump(IF_EQUAL, 0, 0, 2),
        plain(LOAD_WORD, NETWORK + 20),
        plain(JUMP, 2),
        plain(JUMP, past_v4),
        plain(LOAD_WORD, NETWORK + 12),
    ];
    code.extend(v4);
    code.extend(v6);
    code
}

fn only_v4(client: ClientKey) -> Option<u32> {
    match client {
        ClientKey::V4(bits) => Some(bits),
        ClientKey::V6(_) => None,
    }
}

fn only_v6(client: ClientKey) -> Option<u64> {
    match client {
        ClientKey::V4(_) => None,
        ClientKey::V6(bits) => Some(bits),
    }
}

/// Drops IPv6 sources whose first `length` bits are among `keys`.
fn source_v6(keys: &[u64], length: u8) -> Code {
    let high = |key: &u64| u32::try_from(key >> 32).expect("32 bits are left");
    let low = |key: &u64| u32::try_from(key & u64::from(u32::MAX)).expect("32 bits are left");
    let cases = keys.chunk_by(|one, other| high(one) == high(other)).map(|group| {
        let code = if length <= 32 {
            vec![DROP]
        } else {
            let lows: Vec<_> = group.iter().map(low).collect();
            [vec![plain(LOAD_WORD, NETWORK + 12)], masked(length - 32, one_of(&lows))].concat()
        };
        (high(&group[0]), code)
    });
    let cases: Vec<_> = cases.collect();
    [vec![plain(LOAD_WORD, NETWORK + 8)], masked(length.min(32), case_of(&cases))].concat()
}

/// Cuts what is loaded to its first `length` bits, 1 to 32.
fn masked(length: u8, mut code: Code) -> Code {
    if length < 32 {
        code.insert(0, plain(AND, u32::MAX << (32 - u32::from(length))));
    }
    code
}

/// Up to so many values are compared one by one: every halving costs an instruction too.
const LEAF: usize = 16;

/// Drops if what is loaded is among `values`, which are sorted.
fn one_of(values: &[u32]) -> Code {
    if values.len() > LEAF {
        // Leaves that are full are fewer.
        let (low, high) = values.split_at((values.len() / 2).next_multiple_of(LEAF));
        return branch(IF_NOT_LESS, high[0], one_of(high), &one_of(low));
    }
    let skip = |index| u8::try_from(values.len() - index).expect("a leaf is short");
    let compare = values.iter().enumerate().map(|(index, value)| jump(IF_EQUAL, *value, skip(index), 0));
    let mut code: Code = compare.collect();
    code.push(PASS);
    if !values.is_empty() {
        code.push(DROP);
    }
    code
}

/// Goes on with the code of the value that is loaded; the values are sorted.
fn case_of(cases: &[(u32, Code)]) -> Code {
    if cases.len() > LEAF {
        let (low, high) = cases.split_at(cases.len() / 2);
        return branch(IF_NOT_LESS, high[0].0, case_of(high), &case_of(low));
    }
    let last = vec![PASS];
    cases.iter().rfold(last, |rest, (value, code)| branch(IF_EQUAL, *value, code.clone(), &rest))
}

fn branch(condition: u16, value: u32, then: Code, otherwise: &[Instruction]) -> Code {
    let mut code = match u8::try_from(then.len()) {
        Ok(short) => vec![jump(condition, value, 0, short)],
        // A conditional jump reaches 255 instructions.
        Err(_) => {
            let long = u32::try_from(then.len()).expect("it is cut when it is too long");
            vec![jump(condition, value, 1, 0), plain(JUMP, long)]
        }
    };
    code.extend(then);
    code.extend(otherwise);
    code
}

const fn plain(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests;
