//! Long texts that are kept compressed: scrapes, which have all metrics, and answers of the control API. With tens of thousands of reals it has tens of megabytes, and
//! a twentieth when it is compressed. Clients that do not take gzip get it decompressed again while it is sent, so a slow
//! client holds little memory.

use std::io;
use std::io::Cursor;
use std::io::Read;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use hyper::body::Body;
use hyper::body::Bytes;
use hyper::body::Frame;
use hyper::body::SizeHint;
use prometheus::Registry;

use super::gzip;
use crate::report::metrics::Collector;
use crate::report::metrics::text::Format;
use crate::report::metrics::text::Text;

/// How much of the text is decompressed at once.
const CHUNK: usize = 64 * 1024;

/// A long text, compressed.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Packed {
    gzip: Bytes,
    /// Bytes of the text.
    length: u64,
}

impl Packed {
    /// Reads and writes all metrics: those of this process, and those of the instance.
    pub(super) fn scrape(own: &Registry, instance: &Collector, format: Format) -> io::Result<Self> {
        let mut text = Text::new(format, GzEncoder::new(Vec::new(), gzip::LEVEL));
        for family in own.gather() {
            text.gathered(&family);
        }
        instance.write(&mut text);
        let (encoder, length) = text.finish()?;
        Ok(Self { gzip: encoder.finish()?.into(), length })
    }

    /// Of a text that is written already.
    pub(in crate::agent) fn of(text: &[u8]) -> io::Result<Self> {
        Ok(Self { gzip: gzip::compress(text)?.into(), length: text.len() as u64 })
    }

    /// As it is kept.
    pub(super) fn into_gzip(self) -> Bytes {
        self.gzip
    }

    /// As text.
    pub(in crate::agent) fn into_text(self) -> Unzipped {
        Unzipped { decoder: GzDecoder::new(Cursor::new(self.gzip)), left: self.length }
    }
}

/// An answer that is decompressed as far as the client reads it.
#[derive(Debug)]
pub(in crate::agent) struct Unzipped {
    decoder: GzDecoder<Cursor<Bytes>>,
    /// Bytes that are not decompressed yet.
    left: u64,
}

impl Body for Unzipped {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut chunk = vec![0; CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK))];
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        let read = self.decoder.read_exact(&mut chunk);
        self.left -= chunk.len() as u64;
        Poll::Ready(Some(read.map(|()| Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::CHUNK;
    use super::Packed;

    #[tokio::test]
    async fn a_text_comes_back() {
        for length in [0, 1, CHUNK, 3 * CHUNK + 1] {
            let text: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            let packed = Packed::of(&text).expect("memory");
            assert!(packed.gzip.len() < 1024 + length / 8, "{}", packed.gzip.len());
            let sent = packed.into_text().collect().await.expect("a text");
            assert!(sent.to_bytes() == text, "{length}");
        }
    }
}
