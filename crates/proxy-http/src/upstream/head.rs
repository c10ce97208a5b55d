//! Fitting the head of a request to HTTP/2.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use http_body::Body;

/// The host of a request is no authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoAuthority;

/// Makes it a request of HTTP/2, from either form.
pub(super) fn for_http2<B: Body>(request: &mut Request<B>, scheme: Scheme) -> Result<(), NoAuthority> {
    let host = request.headers_mut().remove(HOST);
    let authority = match host {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(|_| NoAuthority)?,
        None => request.uri().authority().cloned().ok_or(NoAuthority)?,
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path(request.uri()));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| NoAuthority)?;
    *request.version_mut() = Version::HTTP_2;
    let length = request.body().size_hint().exact();
    let headers = request.headers_mut();
    fit_length(headers, length);
    for name in OF_HTTP1 {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
    Ok(())
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// A length given must be that of the body; none given stays none.
fn fit_length(headers: &mut HeaderMap, length: Option<u64>) {
    match length {
        None => drop(headers.remove(CONTENT_LENGTH)),
        Some(length) if headers.contains_key(CONTENT_LENGTH) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Some(_) => {}
    }
}

/// What HTTP/2 forbids.
const OF_HTTP1: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::Method;
    use http_body_util::{Empty, Full, StreamBody};

    fn request(headers: &[(&'static str, &'static str)]) -> http::request::Builder {
        let builder = Request::builder().method(Method::GET).uri("/a?b");
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value))
    }

    #[test]
    fn http2_has_an_authority_and_nothing_of_the_connection() {
        let headers = [
            ("host", "shop.test:8080"),
            ("connection", "upgrade"),
            ("keep-alive", "1"),
            ("upgrade", "x"),
            ("te", "trailers"),
            ("trailer", "grpc-status"),
            ("transfer-encoding", "chunked"),
        ];
        let mut request = request(&headers).body(Empty::<Bytes>::new()).unwrap();
        for_http2(&mut request, Scheme::HTTPS).unwrap();
        assert_eq!(request.uri(), "https://shop.test:8080/a?b");
        assert_eq!(request.version(), Version::HTTP_2);
        let mut left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "trailer"]);
    }

    #[test]
    fn a_host_that_is_no_authority_cannot_become_one() {
        for headers in [&[][..], &[("host", "a b")], &[("host", "")]] {
            let mut request = request(headers).body(Empty::<Bytes>::new()).unwrap();
            assert_eq!(for_http2(&mut request, Scheme::HTTP), Err(NoAuthority), "{headers:?}");
        }
    }

    #[test]
    fn a_length_is_that_of_the_body() {
        let lying = [("host", "a"), ("content-length", "9")];
        let mut known = request(&lying).body(Full::new(Bytes::from("four"))).unwrap();
        for_http2(&mut known, Scheme::HTTP).unwrap();
        assert_eq!(known.headers().get(CONTENT_LENGTH).unwrap(), "4");

        let frames = futures_util::stream::empty::<Result<http_body::Frame<Bytes>, std::convert::Infallible>>();
        let mut unknown = request(&lying).body(StreamBody::new(frames)).unwrap();
        for_http2(&mut unknown, Scheme::HTTP).unwrap();
        assert!(!unknown.headers().contains_key(CONTENT_LENGTH));
    }
}
