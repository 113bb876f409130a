//! Compresses answers for clients that take it.

use std::io;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use hyper::header;

/// What is smaller is sent as it is: it fits a packet or two.
const SMALL: usize = 2048;

/// Fast: counters and labels repeat themselves, and shrink to a twentieth all the same.
const LEVEL: u32 = 1;

/// Whether a client takes gzip, by its `Accept-Encoding`.
pub(in crate::agent) fn is_accepted(headers: &HeaderMap) -> bool {
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

/// Whether compressing so many bytes is worth it.
pub(in crate::agent) fn is_worth_it(bytes: usize) -> bool {
    bytes >= SMALL
}

/// What compresses what is written to it.
pub(in crate::agent) fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::new(LEVEL))
}

/// The bytes, compressed.
pub(in crate::agent) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = encoder();
    encoder.write_all(bytes)?;
    encoder.finish()
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
