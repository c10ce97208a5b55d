//! Names of header fields that a proxy has to look at. Pure.

/// Whether a header is one that is looked for in most requests, and in most is not there: what is for one connection, says
/// for whom a request was made, or is ours to say.
pub(crate) fn is_special(name: &[u8]) -> bool {
    // Most names begin like none of those, or are as long as none.
    let may_be = match name {
        [b'c', ..] => matches!(name.len(), 10 | 11 | 17),
        [b'e' | b'f' | b'h' | b'k' | b'p' | b't' | b'u' | b'x', ..] => true,
        _ => false,
    };
    may_be && is_one_of_the_special(name)
}

fn is_one_of_the_special(name: &[u8]) -> bool {
    is_hop_by_hop(name)
        || matches!((name.len(), name), (2, b"te") | (6, b"expect") | (12, b"x-request-id"))
        || speaks_for_others(name)
}

/// Whether a header is for one connection only, whether or not `connection` names it. Takes lower case.
pub(crate) fn is_hop_by_hop(name: &[u8]) -> bool {
    // By length first, which tells most names apart.
    matches!(
        (name.len(), name),
        (7, b"upgrade")
            | (10, b"connection" | b"keep-alive")
            | (14, b"http2-settings")
            | (16, b"proxy-connection")
            | (17, b"transfer-encoding")
            | (18, b"proxy-authenticate")
            | (19, b"proxy-authorization")
    )
}

/// Whether a header says for whom, by which way or as what a request was made. Backends that read headers as variables
/// take `_` for `-`.
pub(crate) fn speaks_for_others(name: &[u8]) -> bool {
    match name.len() {
        9 => alike(name, b"forwarded") || alike(name, b"x-real-ip"),
        11 => alike(name, b"client-cert"),
        17 if alike(name, b"client-cert-chain") => true,
        12.. => alike(&name[..X_FORWARDED.len()], X_FORWARDED),
        _ => false,
    }
}

const X_FORWARDED: &[u8] = b"x-forwarded-";

/// Whether two names are the same where `_` in the first is as good as `-`.
pub(crate) fn alike(text: &[u8], known: &[u8]) -> bool {
    text.len() == known.len() && text.iter().zip(known).all(|(byte, one)| byte == one || (*byte, *one) == (b'_', b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_has_to_look_at_is_told_by_its_first_letter() {
        let special = [
            "te",
            "expect",
            "upgrade",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "connection",
            "keep-alive",
            "client-cert",
            "client_cert",
            "x-request-id",
            "x_forwarded_y",
            "http2-settings",
            "x-forwarded-for",
            "proxy-connection",
            "client-cert-chain",
            "client_cert_chain",
            "transfer-encoding",
            "proxy-authenticate",
            "proxy-authorization",
        ];
        for name in special {
            assert!(is_special(name.as_bytes()) && is_one_of_the_special(name.as_bytes()), "{name}");
        }
        let others = ["", "t", "host", "date", "cookie", "server", "accept", "x-one", "content-type", "content-length"];
        for name in others {
            assert!(!is_special(name.as_bytes()) && !is_one_of_the_special(name.as_bytes()), "{name}");
        }
    }
}
