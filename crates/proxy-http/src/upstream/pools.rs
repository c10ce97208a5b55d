//! Connections to backends, kept per worker.

use crate::body::RequestBody;
use crate::upstream::{Exchange, UpstreamError, UpstreamResponse};
use conn_tracker::Report;
use std::sync::Arc;
use std::time::Duration;

/// How many connections are kept, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Idle HTTP/1.1 connections kept per backend.
    pub(crate) idle_per_backend: usize,
    /// Age at which an idle connection is dropped.
    pub(crate) idle_age: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle_per_backend: 64, idle_age: Duration::from_secs(50) }
    }
}

/// The connections of one worker to backends. Cloning is cheap; the connections end with the last clone and the last
/// response. Must be used on one runtime.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    report: Arc<dyn Report>,
}

impl Pools {
    /// No connection yet. Failures of backends are told to `report`, each attempt once.
    pub(crate) fn new(limits: PoolLimits, report: Arc<dyn Report>) -> Self {
        let _ = limits;
        Self { report }
    }

    /// Sends a request to the first backend that can be reached, in the order of the route, and waits for the head of
    /// the response. Dropping the future abandons the request.
    ///
    /// # Errors
    /// If there is no response. Failures of backends have been reported.
    pub(crate) async fn send(
        &self,
        exchange: Exchange<'_>,
        request: http::Request<RequestBody>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let _ = (exchange, request, &self.report);
        todo!()
    }
}
