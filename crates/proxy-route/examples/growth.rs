//! What finding a route costs, by how many there are: nanoseconds of the fastest of many runs.
//!
//! `cargo run --release -p proxy-route --example growth`
#![allow(clippy::unwrap_used, reason = "an example fails by panicking")]

use conn_tracker::RouteId;
use proxy_route::{Action, HelloFacts, PortRange, RequestFacts, Respond, Route, RouteTable, TlsMode, overlaps};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn main() {
    println!("routes  by SNI  by Host  by path  build (ms)  overlaps (ms)");
    for count in [1, 10, 100, 1_000, 10_000] {
        let by_name = routes(count, |index, route| route.matching.domains = vec![name(index).parse().unwrap()]);
        let by_path =
            routes(count, |index, route| route.matching.path = Some(format!("/api/v1/{index}/*").parse().unwrap()));
        let secret = routes(count, |index, route| {
            route.matching.domains = vec![name(index).parse().unwrap()];
            route.tls = Some(TlsMode::Passthrough);
        });
        let begun = Instant::now();
        let names = table(by_name.clone());
        let built = begun.elapsed();
        let begun = Instant::now();
        assert!(overlaps(&by_path.iter().collect::<Vec<_>>()).is_empty());
        let compared = begun.elapsed();
        let (paths, secret) = (table(by_path), table(secret));

        let hosts: Vec<_> = (0..count).map(name).collect();
        let urls: Vec<_> = (0..count).map(|index| format!("/api/v1/{index}/items")).collect();
        let sni = fastest(count, |index| {
            let facts = HelloFacts { sni: Some(&hosts[index]), ..HelloFacts::default() };
            black_box(secret.port(80).unwrap().by_hello(&facts));
        });
        let host = fastest(count, |index| {
            let facts = RequestFacts { host: &hosts[index], path: "/", ..RequestFacts::default() };
            assert!(names.port(80).unwrap().by_request(&facts).is_some());
        });
        let path = fastest(count, |index| {
            let facts = RequestFacts { host: "any.test", path: &urls[index], ..RequestFacts::default() };
            assert!(paths.port(80).unwrap().by_request(&facts).is_some());
        });
        let (built, compared) = (built.as_secs_f64() * 1e3, compared.as_secs_f64() * 1e3);
        println!("{count:6}  {sni:6}  {host:7}  {path:7}  {built:10.1}  {compared:13.1}");
    }
}

fn name(index: usize) -> String {
    format!("host-{index}.shop.test")
}

fn routes(count: usize, change: impl Fn(usize, &mut Route)) -> Vec<Route> {
    let route = |index: usize| {
        let respond = Respond { status: 200, headers: vec![], body: String::new() };
        let mut route = Route::new(index.to_string(), Action::Respond(respond));
        route.matching.ports = vec![PortRange::single(80)];
        change(index, &mut route);
        route
    };
    (0..count).map(route).collect()
}

fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::new((0..).map(|index| RouteId::new(index).unwrap()).zip(routes)).unwrap()
}

/// Looks up routes in an order that no cache knows.
fn fastest(count: usize, look_up: impl Fn(usize)) -> u128 {
    const EACH: u32 = 10_000;
    let run = |run: usize| {
        let begun = Instant::now();
        (0..EACH as usize).for_each(|step| look_up((run + step * 7919) % count));
        begun.elapsed() / EACH
    };
    (0..50).map(run).min().map_or(0, |least: Duration| least.as_nanos())
}
