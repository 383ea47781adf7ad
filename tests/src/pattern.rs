//! Content of any length that nobody has to hold in memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use locus::Entropy;
use locus_testkit::SeededEntropy;
use tokio::io::{AsyncRead, ReadBuf};

const PAGE: usize = 4_096;

/// Pages of random bytes, each beginning with its number. As a reader it gives itself; as a judge it tells whether what
/// came is itself.
#[derive(Debug, Clone)]
pub struct Pattern {
    page: Box<[u8; PAGE]>,
    bytes: u64,
    at: u64,
}

impl Pattern {
    /// So many bytes; another seed gives others.
    #[must_use]
    pub fn new(seed: u64, bytes: u64) -> Self {
        let mut page = Box::new([0; PAGE]);
        SeededEntropy::new(seed).fill(&mut page[..]);
        Self { page, bytes, at: 0 }
    }

    /// The next bytes, up to the end of their page; none at the end.
    fn ahead(&mut self) -> &[u8] {
        let (number, from) = (self.at / PAGE as u64, self.at as usize % PAGE);
        self.page[..8].copy_from_slice(&number.to_le_bytes());
        let left = usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX);
        &self.page[from..PAGE.min(from.saturating_add(left))]
    }

    /// Whether these bytes are the ones that come next.
    pub fn goes_on_with(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let ahead = self.ahead();
            let len = ahead.len().min(bytes.len());
            if len == 0 || ahead[..len] != bytes[..len] {
                return false;
            }
            bytes = &bytes[len..];
            self.at += len as u64;
        }
        true
    }

    /// Whether all of it came.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.at == self.bytes
    }
}

impl AsyncRead for Pattern {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while into.remaining() > 0 && !self.is_over() {
            let ahead = self.ahead();
            let len = ahead.len().min(into.remaining());
            into.put_slice(&ahead[..len]);
            self.at += len as u64;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_pattern_knows_itself_and_nothing_else() {
        let mut bytes = Vec::new();
        Pattern::new(7, 10_000).read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes.len(), 10_000);
        let mut judge = Pattern::new(7, 10_000);
        assert!(
            judge.goes_on_with(&bytes[..5_000]) && judge.goes_on_with(&bytes[5_000..]) && judge.is_over()
        );
        assert!(!judge.goes_on_with(&[0]), "more than all of it");
        bytes.swap(0, 4_096); // the number of a page
        assert!(!Pattern::new(7, 10_000).goes_on_with(&bytes));
        assert!(!Pattern::new(8, 10_000).goes_on_with(&bytes[4_096..]));
    }
}
