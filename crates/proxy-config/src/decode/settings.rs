//! The top level, but for the routes.

use super::security::{SecurityKeys, security};
use super::target::{TargetKeys, target_keys};
use super::tls::{TlsKeys, tls_keys, tls_settings};
use super::{endpoints, limits, proxies};
use crate::cursor::{Cursor, Table};
use crate::value::{
    boolean, choice, duration, integer, limit, period, positive, send_proxy, string, timeout, unix_socket,
};
use proxy_route::{KeepAlive, KeepAliveTreatment, OnReject, ProxyVersion, Settings, TcpKeepAlive, Timeouts};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is merged into every route.
#[derive(Default)]
pub(crate) struct Defaults {
    pub(crate) security: SecurityKeys,
    pub(crate) tls: TlsKeys,
    pub(crate) target: TargetKeys,
    pub(crate) send_proxy: Option<ProxyVersion>,
    /// Whether there are certificates for routes without one of their own.
    pub(crate) certificates: bool,
}

pub(crate) fn settings(table: &Table<'_>) -> (Settings, Defaults) {
    let mut settings = Settings::default();
    if let Some((addresses, sockets)) = table.get("bind", bind) {
        (settings.bind, settings.bind_unix) = (addresses, sockets);
    }
    settings.workers = table
        .get("workers", |at| integer::<i64>(at, 1..=4096))
        .and_then(|count| usize::try_from(count).ok().and_then(std::num::NonZeroUsize::new));
    let mut defaults = table.get("defaults", merged).unwrap_or_default();
    limits::limits(table, &defaults.security, &mut settings);
    table.read("enforce", boolean, &mut settings.enforce);
    table.read("onReject", on_reject, &mut settings.on_reject);
    settings.shed = table.get("shed", limits::shed).flatten();
    if let Some(keys) = table.get("security", |at| security(at, false)) {
        settings.access = keys.access();
    }
    proxies::accepted(table, &mut settings);
    table.read("sendProxyProtocol", send_proxy, &mut settings.send_proxy);
    timeouts(table, &mut settings.timeouts);
    keep_alive(table, &mut settings.keep_alive);
    table.read("dnsRefreshInterval", timeout, &mut settings.dns_refresh);
    // Below 8 KiB, ordinary browsers are refused; a request head of 16 MiB is an attack.
    let bytes = |at: &Cursor<'_>| integer::<usize>(at, 8192..=16 * 1024 * 1024);
    table.read("maxRequestHeaderBytes", bytes, &mut settings.max_request_header_bytes);
    table.read("maxConcurrentStreams", |at| integer(at, 1..=10_000), &mut settings.max_concurrent_streams);
    table.read("minRequestBodyRate", limit, &mut settings.min_request_body_rate);
    table.read("tls", tls_settings, &mut settings.tls);
    table.read("logging", endpoints::logging, &mut settings.logging);
    settings.access_log = table.get("accessLog", endpoints::access_log).flatten();
    settings.admin = table.get("admin", endpoints::admin);
    table.read("idleReclaim", boolean, &mut settings.idle_reclaim);
    table.unsupported(UNBUILT);
    defaults.send_proxy = settings.send_proxy;
    // Wrong ones count too: they are reported where they are.
    let certificates = table.take("tls").and_then(|at| at.table()).and_then(|tls| tls.take("certificates"));
    defaults.certificates = certificates.is_some_and(|at| !at.one_or_many().is_empty());
    (settings, defaults)
}

/// Keys of the reference or of the original that are known and not built.
const UNBUILT: &[&str] = &[
    "acme",
    "metrics",
    "socketTimeout",
    "maxPendingDataSize",
    "extendedKeepAliveLifetime",
    "inactivityCheckInterval",
    "disableInactivityCheck",
    "keepAlive",
    "keepAliveInitialDelay",
    "enableKeepAliveProbes",
    "enableRandomizedTimeouts",
    "noDelay",
    "keepAliveTimeout",
    "headersTimeout",
    "preserveSourceIP",
    "useHttpProxy",
    "httpProxyPort",
    "enableDetailedLogging",
    "enableTlsDebugLogging",
    "allowSessionTicket",
];

fn merged(at: &Cursor<'_>) -> Option<Defaults> {
    let table = at.table()?;
    let mut defaults = Defaults::default();
    table.read("security", |at| security(at, true), &mut defaults.security);
    table.read("tls", tls_keys, &mut defaults.tls);
    table.read("target", target_keys, &mut defaults.target);
    table.finish();
    Some(defaults)
}

/// Addresses, and paths of Unix sockets.
fn bind(at: &Cursor<'_>) -> Option<(Vec<IpAddr>, Vec<PathBuf>)> {
    let items = at.one_or_many();
    if items.is_empty() {
        at.error_help("without an address no port is opened", "name at least one, or leave \"bind\" out");
    }
    let (mut addresses, mut sockets) = (Vec::new(), Vec::new());
    for item in items {
        match unix_socket(&item) {
            Some(Some(path)) if sockets.contains(&path) => item.error("this socket is given twice"),
            Some(Some(path)) => sockets.push(path),
            Some(None) | None => {}
        }
        let Some(text) = string(&item).filter(|text| !text.starts_with("unix:")) else { continue };
        match text.parse() {
            Ok(address) if addresses.contains(&address) => item.error("this address is given twice"),
            Ok(address) => addresses.push(address),
            Err(_) => item.error_help(
                format!("{text:?} is no address"),
                "write an IP address without port, as in \"0.0.0.0\" or \"::\", or \"unix:/path\"; ports belong to the routes",
            ),
        }
    }
    Some((addresses, sockets))
}

fn on_reject(at: &Cursor<'_>) -> Option<OnReject> {
    choice(at, &[("close", OnReject::Close), ("reset", OnReject::Reset), ("respond", OnReject::Respond)], &[])
}

fn timeouts(table: &Table<'_>, timeouts: &mut Timeouts) {
    table.read("initialDataTimeout", timeout, &mut timeouts.initial_data);
    table.read("connectionTimeout", timeout, &mut timeouts.connect);
    table.read("responseTimeout", timeout, &mut timeouts.response);
    table.read("requestHeaderTimeout", timeout, &mut timeouts.request_header);
    table.read("requestBodyTimeout", timeout, &mut timeouts.request_body);
    table.read("responseBodyTimeout", timeout, &mut timeouts.response_body);
    table.read("maxConnectionLifetime", timeout, &mut timeouts.lifetime);
    table.read("gracefulShutdownTimeout", timeout, &mut timeouts.graceful_shutdown);
}

fn keep_alive(table: &Table<'_>, keep_alive: &mut KeepAlive) {
    if let Some(idle) = table.get("inactivityTimeout", timeout) {
        keep_alive.tunnel_idle = idle;
        keep_alive.http_idle = idle;
    }
    let treatments = [
        ("standard", KeepAliveTreatment::Standard),
        ("extended", KeepAliveTreatment::Extended),
        ("immortal", KeepAliveTreatment::Immortal),
    ];
    table.read("keepAliveTreatment", |at| choice(at, &treatments, &[]), &mut keep_alive.treatment);
    table.read("keepAliveInactivityMultiplier", positive, &mut keep_alive.multiplier);
    table.read("tcpKeepAlive", tcp_keep_alive, &mut keep_alive.tcp);
}

/// `Some(None)` is none: `false`.
fn tcp_keep_alive(at: &Cursor<'_>) -> Option<Option<TcpKeepAlive>> {
    if at.is_none() {
        return Some(None);
    }
    let mut probes = TcpKeepAlive::default();
    let table = at.table()?;
    table.read("idle", seconds, &mut probes.idle);
    table.read("interval", seconds, &mut probes.interval);
    table.read("probes", |at| integer(at, 1..=127), &mut probes.probes);
    table.finish();
    Some(Some(probes))
}

/// The system counts these times in whole seconds, up to 32,767.
fn seconds(at: &Cursor<'_>) -> Option<Duration> {
    let time = period(at)?;
    if time.subsec_nanos() != 0 || time.as_secs() > 32_767 {
        at.error("the system counts this in whole seconds, from 1 to 32767");
        return None;
    }
    duration(at)
}
