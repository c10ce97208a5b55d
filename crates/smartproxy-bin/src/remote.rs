//! `smartproxy status`, `reload` and `drain`: asking a running proxy through its admin endpoint.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use proxy_route::Endpoint;
use serde_json::Value;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A running proxy.
#[derive(Debug, clap::Args)]
pub(crate) struct Remote {
    /// Its admin endpoint; also unix:/path.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: Endpoint,
    /// The token of its admin endpoint; else the environment variable SMARTPROXY_ADMIN_TOKEN is used.
    #[arg(long)]
    token: Option<String>,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Status,
    Reload,
    Drain,
}

/// Asks, and prints the answer.
pub(crate) fn ask(remote: &Remote, wish: Wish) -> ExitCode {
    match exchange(remote, wish) {
        Ok((status, answer)) if status.is_success() => {
            println!("{}", readable(wish, &answer));
            ExitCode::SUCCESS
        }
        Ok((status, answer)) => {
            let why = answer["error"].as_str().map_or_else(|| status.to_string(), str::to_owned);
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {} does not answer: {error}; is it the proxy's `admin.listen`?", remote.admin);
            ExitCode::FAILURE
        }
    }
}

fn exchange(remote: &Remote, wish: Wish) -> Result<(StatusCode, Value), Box<dyn Error>> {
    let (method, path) = match wish {
        Wish::Status => (Method::GET, "/api/v1/status"),
        Wish::Reload => (Method::POST, "/api/v1/reload"),
        Wish::Drain => (Method::POST, "/api/v1/drain"),
    };
    let host = match &remote.admin {
        Endpoint::Tcp(address) => address.to_string(),
        Endpoint::Unix(_) => "localhost".to_owned(),
    };
    let mut request = Request::builder().method(method).uri(path).header(HOST, host);
    if let Some(token) = remote.token.clone().or_else(|| std::env::var("SMARTPROXY_ADMIN_TOKEN").ok()) {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let asking = async {
        match &remote.admin {
            Endpoint::Tcp(address) => send(TcpStream::connect(address).await?, request).await,
            Endpoint::Unix(path) => send(UnixStream::connect(path).await?, request).await,
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await? })
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Value), Box<dyn Error>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}

fn readable(wish: Wish, answer: &Value) -> String {
    match wish {
        Wish::Reload => answer["message"].as_str().unwrap_or("reloaded").to_owned(),
        Wish::Drain => "draining".to_owned(),
        Wish::Status => {
            let fields = answer.as_object().into_iter().flatten();
            fields.map(|(key, value)| format!("{key}: {}", plain(value))).collect::<Vec<_>>().join("\n")
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A reload may read many certificates.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_reads_as_lines() {
        let answer = serde_json::json!({ "listeners": ["a", "b"], "readiness": "ready", "reloads": 2 });
        assert_eq!(readable(Wish::Status, &answer), "listeners: a b\nreadiness: ready\nreloads: 2");
    }
}
