//! What is answered at which path.

use crate::access::{Access, Denied};
use crate::{Readiness, Status, documents, metrics};
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

const DEFAULT_TOP: usize = 20;
/// Largest `top` that is granted.
const MAX_TOP: usize = 1000;

pub(crate) fn router(status: Arc<dyn Status>, access: Access) -> Router {
    let guarded = middleware::from_fn(move |request: Request, next: Next| {
        let verdict = access.check(request.method(), request.headers());
        async move {
            match verdict {
                Ok(()) => next.run(request).await,
                Err(denied) => refusal(denied),
            }
        }
    });
    Router::new()
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .route("/api/v1/status", get(overview))
        .route("/api/v1/limits", get(limits))
        .route("/api/v1/routes", get(routes))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/drain", post(drain))
        .fallback(async || problem(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || problem(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(guarded)
        .route("/healthz", get(async || "ok"))
        .layer(middleware::map_response(async |mut response: Response| {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }))
        .with_state(status)
}

async fn readyz(State(status): State<Arc<dyn Status>>) -> Response {
    let readiness = status.readiness();
    let code = if readiness == Readiness::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, readiness.label()).into_response()
}

async fn scrape(State(status): State<Arc<dyn Status>>) -> Response {
    const OPEN_METRICS: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    match metrics::text(status) {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the metrics could not be written: {error}")),
    }
}

async fn overview(State(status): State<Arc<dyn Status>>) -> Json<Value> {
    Json(documents::overview(&*status))
}

async fn routes(State(status): State<Arc<dyn Status>>) -> Json<Value> {
    Json(documents::routes(&*status))
}

async fn limits(State(status): State<Arc<dyn Status>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let top = match query.get("top").map(|top| top.parse::<usize>()) {
        None => DEFAULT_TOP,
        Some(Ok(top)) if top <= MAX_TOP => top,
        Some(_) => return problem(StatusCode::BAD_REQUEST, &format!("`top` is a number from 0 to {MAX_TOP}")),
    };
    Json(documents::limits(&*status, top)).into_response()
}

async fn reload(State(status): State<Arc<dyn Status>>) -> Response {
    // Reading files and certificates may take a while, and others ask too.
    let reloading = tokio::task::spawn_blocking(move || status.reload());
    match reloading.await.unwrap_or_else(|_| Some(Err("the reload broke off; see the log".to_owned()))) {
        None => problem(StatusCode::NOT_IMPLEMENTED, "this process cannot reload: it has no configuration file"),
        Some(Ok(message)) => Json(json!({ "reloaded": true, "message": message })).into_response(),
        Some(Err(message)) => problem(StatusCode::UNPROCESSABLE_ENTITY, &message),
    }
}

async fn drain(State(status): State<Arc<dyn Status>>) -> Response {
    if status.drain() {
        (StatusCode::ACCEPTED, Json(json!({ "draining": true }))).into_response()
    } else {
        problem(StatusCode::NOT_IMPLEMENTED, "this process cannot drain: send it a SIGTERM instead")
    }
}

fn refusal(denied: Denied) -> Response {
    match denied {
        Denied::Token => {
            let scheme: [(HeaderName, &str); 1] = [(WWW_AUTHENTICATE, "Bearer")];
            let what = "send the token of `admin.token` as `Authorization: Bearer …`";
            (scheme, problem(StatusCode::UNAUTHORIZED, what)).into_response()
        }
        Denied::Browser => {
            let what = "ask by address (such as 127.0.0.1), not from a web page; or set `admin.token`";
            problem(StatusCode::FORBIDDEN, what)
        }
    }
}

fn problem(code: StatusCode, what: &str) -> Response {
    (code, Json(json!({ "error": what }))).into_response()
}
