//! One content for several readers: each reads its own end of it.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use locus_core::Content;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc::{Receiver, Sender, channel},
};

use crate::{disk::Disk, door::off_thread, lost::Lost};

/// Pieces in which content is handed on; content in memory up to this length is handed on whole.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Pieces that wait for one reader.
const PIECES_MAX: usize = 1;

/// The giving end. Dropped before [`end`](Self::end), it makes every reader fail: none takes a part for the whole.
#[derive(Debug)]
pub(crate) struct Feed {
    ends: Vec<Option<Sender<Piece>>>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
}

/// A feed for `count` readers.
pub(crate) fn feed(count: usize) -> (Feed, Vec<Fed>) {
    let (ends, fed) = (0..count)
        .map(|_| {
            let (end, pieces) = channel(PIECES_MAX);
            (Some(end), Fed { pieces, left: Bytes::new(), ended: false })
        })
        .unzip();
    (Feed { ends }, fed)
}

impl Feed {
    /// Gives a piece to everybody who still reads; `false` when nobody does.
    pub(crate) async fn give(&mut self, bytes: Bytes) -> bool {
        for slot in &mut self.ends {
            if let Some(end) = slot
                && end.send(Piece::Bytes(bytes.clone())).await.is_err()
            {
                *slot = None;
            }
        }
        self.ends.iter().any(Option::is_some)
    }

    /// Says that this was all.
    pub(crate) async fn end(self) {
        for end in self.ends.into_iter().flatten() {
            let _ = end.send(Piece::End).await; // whoever reads no more needs no end
        }
    }
}

/// The taking end.
#[derive(Debug)]
pub(crate) struct Fed {
    pieces: Receiver<Piece>,
    left: Bytes,
    ended: bool,
}

impl AsyncRead for Fed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() && !self.ended {
            match ready!(self.pieces.poll_recv(context)) {
                Some(Piece::Bytes(bytes)) => self.left = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Poll::Ready(Err(io::Error::other("the content ended before its end"))),
            }
        }
        let len = self.left.len().min(into.remaining());
        into.put_slice(&self.left[..len]);
        self.left.advance(len);
        Poll::Ready(Ok(()))
    }
}

/// The next piece of a content that is not in memory; one that is shorter is the last. A source that blocks is lent to where
/// it may.
pub(crate) async fn next_chunk(disk: &dyn Disk, content: &mut Content) -> io::Result<Bytes> {
    let mut chunk = Vec::new();
    if content.is_blocking() {
        let mut lent = mem::replace(content, Content::reader(Lost));
        let (lent, read) = off_thread(disk, move || {
            let read = lent.read_chunk_blocking(&mut chunk, CHUNK_BYTES).map(|()| chunk);
            (lent, read)
        })
        .await;
        *content = lent;
        return read.map(Bytes::from);
    }
    content.read_chunk(&mut chunk, CHUNK_BYTES).await?;
    Ok(chunk.into())
}
