//! Compresses answers for clients that take it.

use std::io;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header;
use hyper::header::HeaderValue;

/// What is smaller is sent as it is: it fits a packet or two.
const SMALL: usize = 2048;

/// Fast: counters and labels repeat themselves, and shrink to a twentieth all the same.
pub(super) const LEVEL: Compression = Compression::fast();

/// Whether a client takes gzip, by its `Accept-Encoding`.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let mut any = None;
    for coding in codings {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = quality.trim().strip_prefix("q=").map_or(Some(1.0), |text| text.parse().ok());
        let taken = quality.is_some_and(|quality: f32| quality > 0.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => return taken,
            "*" => any = Some(taken),
            _ => {}
        }
    }
    any.unwrap_or(false)
}

/// The bytes, compressed.
pub(super) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), LEVEL);
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The same answer, compressed if the client takes that and it is worth it.
pub(in crate::agent) async fn compressed(
    response: Response<Full<Bytes>>,
    asked: &HeaderMap,
) -> Response<Full<Bytes>> {
    let (mut head, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    let kept = body.clone();
    let body = if is_accepted(asked) && body.len() >= SMALL {
        match tokio::task::spawn_blocking(move || compress(&body)).await {
            Ok(Ok(small)) => {
                let gzip = HeaderValue::from_static("gzip");
                head.headers.insert(header::CONTENT_ENCODING, gzip);
                small.into()
            }
            _ => kept,
        }
    } else {
        kept
    };
    head.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Response::from_parts(head, Full::new(body))
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::ACCEPT_ENCODING;

    use super::is_accepted;

    #[test]
    fn clients_say_what_they_take() {
        for (text, taken) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("deflate, GZIP;q=0.5", true),
            ("br;q=1.0, *;q=0.1", true),
            ("*", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip; q=0, *", false),
            ("gzip;q=no", false),
            ("*;q=0", false),
            ("xgzip", false),
        ] {
            let headers = [(ACCEPT_ENCODING, text.parse().expect("a value"))];
            assert_eq!(is_accepted(&HeaderMap::from_iter(headers)), taken, "{text}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
