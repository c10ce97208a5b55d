//! Why a request got no response from a backend.

use http::StatusCode;
use std::fmt;

/// Why a request got no response from a backend. Everything that is a backend's fault has been reported already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// No backend could be reached. The body of the request is untouched.
    Unreachable {
        /// Whether the last one was not reached in time.
        timed_out: bool,
    },
    /// No backend is up, as far as health checks say.
    NoneHealthy,
    /// Every backend that is up has as many requests as it may have.
    Full,
    /// A backend took the request and broke off without an answer.
    Lost,
    /// A backend answered something that is not HTTP.
    Malformed,
    /// A backend took the request and did not answer in time.
    TimedOut,
    /// The body of the request broke off: the client's doing, not reported.
    RequestBody,
    /// The request cannot be sent as it is: its `Host` is no authority. Not reported.
    BadRequest,
}

impl UpstreamError {
    /// What the client is told: 502, 503, 504, or 400 where the client is at fault.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Unreachable { timed_out: true } | Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Unreachable { timed_out: false } | Self::Lost | Self::Malformed => StatusCode::BAD_GATEWAY,
            Self::NoneHealthy | Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::RequestBody | Self::BadRequest => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether there may soon be a backend for it.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::NoneHealthy | Self::Full)
    }

    /// The name in the access log.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::NoneHealthy => "no_healthy_backend",
            Self::Full => "target_limit",
            Self::Lost => "connection_lost",
            Self::Malformed => "response_malformed",
            Self::TimedOut => "response_timeout",
            Self::RequestBody => "request_body",
            Self::BadRequest => "request_malformed",
        }
    }

    /// The name of the failure of the backend in logs and metrics; `None` if it is the client's, or told per attempt.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Lost | Self::Malformed | Self::TimedOut => Some(self.label()),
            Self::Unreachable { .. } | Self::NoneHealthy | Self::Full | Self::RequestBody | Self::BadRequest => None,
        }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable { timed_out: true } => "no backend was reached in time",
            Self::Unreachable { timed_out: false } => "no backend could be reached",
            Self::NoneHealthy => "no backend is healthy",
            Self::Full => "every backend has as many requests as it may have",
            Self::Lost => "the backend broke off without an answer",
            Self::Malformed => "the backend answered something that is not HTTP",
            Self::TimedOut => "the backend did not answer in time",
            Self::RequestBody => "the body of the request broke off",
            Self::BadRequest => "the host of the request is no authority",
        })
    }
}

impl std::error::Error for UpstreamError {}
