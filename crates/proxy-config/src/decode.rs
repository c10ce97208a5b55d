//! From the tree to a configuration.

mod action;
mod balancing;
mod endpoints;
mod headers;
mod limits;
mod matching;
mod proxies;
mod route;
mod security;
mod settings;
mod target;
mod tls;

use crate::checks;
use crate::cursor::Cursor;
use proxy_route::Config;

pub(crate) use route::Placed;

/// What the file says. Mistakes are in the sink; with an error among them the answer means nothing.
pub(crate) fn config(root: &Cursor<'_>) -> Config {
    let Some(table) = root.table() else { return Config::default() };
    let (settings, defaults) = settings::settings(&table);
    let items = table.get("routes", |at| at.list("a list of routes")).unwrap_or_default();
    let routes: Vec<_> = items.iter().filter_map(|item| route::route(item, &defaults)).collect();
    table.finish();
    checks::routes(&routes);
    checks::process(&table, &settings, &routes);
    let routes = routes.into_iter().filter(|placed| placed.enabled).map(|placed| placed.route).collect();
    Config { settings, routes }
}
