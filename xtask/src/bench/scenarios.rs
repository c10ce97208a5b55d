//! What is measured.

use super::{
    load::Pace,
    peers::{Listener, Need},
};

/// One line of work, the same for every proxy.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What it means, in one sentence of the report.
    pub(crate) sentence: &'static str,
    /// What the rate counts, per second.
    pub(crate) unit: &'static str,
    /// What the cost is in.
    pub(crate) cost: Cost,
    /// What a proxy must be able to do to take part.
    pub(crate) needs: &'static [Need],
    pub(crate) kind: Kind,
}

/// What the figures of a scenario are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Less is better, and proxies are compared by their ratio; in this unit.
    Least(&'static str),
    /// Right or wrong: there is one good value. In this unit.
    Exactly(u32, &'static str),
}

/// How a scenario is measured.
#[derive(Debug)]
pub(crate) enum Kind {
    /// CPU time per unit of work, all proxies running and loaded in turns.
    Work(Work),
    /// The latency of one client while another one floods.
    Bystander(Listener, Pace),
    /// Resident memory per idle connection.
    Idle(Listener),
    /// Resident memory that is left when many connections have closed.
    Closed(Listener),
    /// Resident memory per client that the proxy remembers.
    Clients,
    /// How many more are admitted when a limit that is reached is raised.
    RaisedLimit,
    /// Requests that fail while the configuration is read again and again.
    Reloads,
    /// CPU time per request with two workers, in that with one.
    Workers,
    /// How many connections one client gets on two kinds of routes together.
    Together,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// HTTP/1.1 over kept connections.
    Http1(Listener),
    /// HTTP/2, many streams on few connections.
    Http2,
    /// Bytes from the backend, as many as fit.
    Bulk,
    /// A connection for each request.
    Each(Listener),
    /// Connections beyond the client's limit.
    Refused(Listener),
    /// The same by a client that a proxy may shed in the kernel.
    Shed,
}

impl Work {
    /// Where it arrives.
    pub(crate) fn listener(self) -> Listener {
        match self {
            Self::Http1(listener) | Self::Each(listener) | Self::Refused(listener) => listener,
            Self::Http2 => Listener::H2,
            Self::Bulk => Listener::Sni,
            Self::Shed => Listener::Tcp,
        }
    }
}

/// All scenarios, in the order of the report.
pub(crate) const SCENARIOS: &[Scenario] = &[
    work("http1", "HTTP/1.1 over 64 kept connections, a 1 KiB response each", Work::Http1(Listener::Http)),
    work(
        "tls1",
        "the same inside TLS 1.3, which the proxy terminates; handshakes not counted",
        Work::Http1(Listener::Tls),
    ),
    work("tls2", "HTTP/2 inside TLS: 16 connections with 32 streams each, 1 KiB responses", Work::Http2),
    Scenario {
        name: "passthrough",
        sentence: "bulk download over 4 TLS connections that are passed through by their SNI",
        unit: "GB",
        cost: Cost::Least("s CPU per GB"),
        needs: &[Need::Streams],
        kind: Kind::Work(Work::Bulk),
    },
    work(
        "connect",
        "TCP connect, one HTTP/1.1 request, close; backend connections are kept",
        Work::Each(Listener::Http),
    ),
    Scenario {
        needs: &[Need::Streams],
        ..work(
            "connect-tcp",
            "the same through a TCP route, each with a backend connection of its own, whose end is that of both in smartproxy and nginx",
            Work::Each(Listener::Tcp),
        )
    },
    work(
        "handshake",
        "full TLS 1.3 handshake (P-256 certificate, X25519, no resumption), one request, close",
        Work::Each(Listener::Tls),
    ),
    refusal("refuse", "a client at its limit of 8 connects to a plain TCP listener and is closed", Listener::Tcp),
    refusal(
        "refuse-tls",
        "the same at a listener that terminates TLS; the client would do the handshake and send a request",
        Listener::Tls,
    ),
    Scenario {
        unit: "attempts",
        needs: &[Need::Limit],
        ..work(
            "shed",
            "the same as `refuse` with shedding on where there is any: what the client sends is dropped before accept",
            Work::Shed,
        )
    },
    bystander(
        "bystander",
        "p99 of a client that connects and asks 500 times a second while another one, at its limit of 8, knocks without pause; plain HTTP",
        Kind::Bystander(Listener::Http, None),
    ),
    bystander(
        "bystander-tls",
        "the same inside TLS, both with full handshakes as far as the proxy lets them",
        Kind::Bystander(Listener::Tls, None),
    ),
    bystander(
        "bystander-paced",
        "the same inside TLS with 1,600 knocks a second, which is what all of them can refuse",
        Kind::Bystander(Listener::Tls, Some(1600)),
    ),
    Scenario {
        needs: &[Need::ClientRate],
        ..memory(
            "clients",
            "resident memory per client remembered: 100,000 addresses, one request each, count and one rate kept",
            "B",
            Kind::Clients,
        )
    },
    memory(
        "idle",
        "resident memory per idle connection 1 s after its last byte: 2,000 plain HTTP/1.1",
        "B",
        Kind::Idle(Listener::Http),
    ),
    memory("idle-tls", "the same, HTTP/1.1 inside TLS", "B", Kind::Idle(Listener::Tls)),
    memory("idle-h2", "the same, HTTP/2 inside TLS", "B", Kind::Idle(Listener::H2)),
    Scenario {
        needs: &[Need::Streams],
        ..memory("idle-passthrough", "the same, passed through by SNI", "B", Kind::Idle(Listener::Sni))
    },
    memory(
        "closed",
        "resident memory above the start 2 s after 10,000 HTTP/1.1 connections inside TLS (5,000 at once) have closed",
        "MB",
        Kind::Closed(Listener::Tls),
    ),
    Scenario {
        name: "raised",
        sentence: "limit of 100 connections reached, reload with a limit of 110: how many more are admitted",
        unit: "",
        cost: Cost::Exactly(10, "admitted"),
        needs: &[Need::Streams, Need::Limit],
        kind: Kind::RaisedLimit,
    },
    Scenario {
        name: "reloads",
        sentence: "of 50,000 requests or more during 20 reloads, on kept connections and on new ones, how many failed",
        unit: "requests",
        cost: Cost::Exactly(0, "failed"),
        needs: &[],
        kind: Kind::Reloads,
    },
    Scenario {
        name: "workers",
        sentence: "CPU per HTTP/1.1 request with two workers, in that with one; both cores shared with the load",
        unit: "requests",
        cost: Cost::Least("× one worker"),
        needs: &[],
        kind: Kind::Workers,
    },
    Scenario {
        name: "together",
        sentence: "connections that one client with a limit of 100 gets on a TCP and a TLS route together, of 150 tried on each",
        unit: "",
        cost: Cost::Exactly(100, "admitted"),
        needs: &[Need::Streams, Need::ClientLimit],
        kind: Kind::Together,
    },
];

const fn work(name: &'static str, sentence: &'static str, work: Work) -> Scenario {
    Scenario { name, sentence, unit: "requests", cost: Cost::Least("µs CPU"), needs: &[], kind: Kind::Work(work) }
}

const fn refusal(name: &'static str, sentence: &'static str, listener: Listener) -> Scenario {
    let needs = &[Need::Limit];
    Scenario { unit: "refusals", needs, ..work(name, sentence, Work::Refused(listener)) }
}

const fn bystander(name: &'static str, sentence: &'static str, kind: Kind) -> Scenario {
    let (cost, needs) = (Cost::Least("ms p99"), &[Need::ClientLimit]);
    Scenario { name, sentence, unit: "refusals", cost, needs, kind }
}

const fn memory(name: &'static str, sentence: &'static str, cost: &'static str, kind: Kind) -> Scenario {
    Scenario { name, sentence, unit: "", cost: Cost::Least(cost), needs: &[], kind }
}

impl Cost {
    /// What the figures are in.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Least(unit) | Self::Exactly(_, unit) => unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_words_and_unique() {
        let names: HashSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(names.iter().all(|name| name.chars().all(|char| char.is_ascii_alphanumeric() || char == '-')));
    }
}
