//! One content for several members: each reads its own end of it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc::{Receiver, Sender, channel},
};

/// Pieces of at most 1 MiB that wait for one member.
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
