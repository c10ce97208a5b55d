//! One client for both versions of HTTP.

use super::client::{self, in_time, tcp_from, tls};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// A client that speaks one of the versions in TLS.
pub(crate) enum Http {
    One(hyper::client::conn::http1::SendRequest<client::Body>),
    Two(hyper::client::conn::http2::SendRequest<client::Body>),
}

pub(crate) const VERSIONS: [&str; 2] = ["http/1.1", "h2"];

impl Http {
    pub(crate) async fn connect(source: IpAddr, address: SocketAddr, alpn: &'static str) -> io::Result<Self> {
        let stream = tls(tcp_from(source, address).await?, "end.test", &[alpn]).await?;
        Ok(match alpn {
            "h2" => Self::Two(client::http2(stream).await),
            _ => Self::One(client::http1(stream).await),
        })
    }

    /// Another one over the same connection.
    ///
    /// # Panics
    /// In HTTP/1.1, which has one request at a time.
    pub(crate) fn another(&self) -> Self {
        match self {
            Self::One(_) => panic!("one request at a time"),
            Self::Two(sender) => Self::Two(sender.clone()),
        }
    }

    pub(crate) async fn ask(&mut self, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed();
        let mut request = match self {
            Self::One(_) => Request::get(path).header("host", "end.test"),
            Self::Two(_) => Request::get(format!("https://end.test{path}")),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let answer = in_time("an answer", async {
            match self {
                Self::One(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Two(sender) => sender.send_request(request).await,
            }
        });
        answer.await.expect("an answer")
    }

    pub(crate) async fn status(&mut self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let answer = self.ask(path, headers).await;
        let status = answer.status().as_u16();
        let _ = in_time("the body", answer.into_body().collect()).await;
        status
    }
}

pub(crate) async fn text(answer: Response<Incoming>) -> String {
    let body = in_time("the body", answer.into_body().collect()).await.expect("a whole body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}
