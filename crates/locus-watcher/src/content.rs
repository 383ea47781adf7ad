//! The content of a source, read piece by piece through the door of its folder: where that hangs, nothing of the store and no
//! thread of the runtime waits with it.

use std::{
    fs::File,
    future::Future,
    io::{self, SeekFrom},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use locus_core::Content;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use crate::{
    door::{Door, PATIENCE},
    folder::Folder,
    reason::SkipReason,
    source::Stat,
    walk::Found,
};

/// Bytes that are read at once. What is no longer is read whole when it is opened.
const PIECE: u64 = 1 << 20;

/// The content of a source, which ends in an error as soon as the source is not what was found any more, or when a piece of it
/// does not come within a minute.
pub(crate) async fn open(door: &Door, found: &Found) -> Result<Content, SkipReason> {
    let opening = found.clone();
    let opened = door.ask_in_time(PATIENCE, move || {
        let file = opening.folder.file(&opening.name).map_err(|error| crate::walk::unseen(&error))?;
        let expected = opening.stat;
        let first = read(&file, &expected, 0).map_err(|error| match is_changed(&error) {
            true => SkipReason::Changed,
            false => SkipReason::Unreadable,
        })?;
        Ok((file, first))
    });
    let (file, first) = opened.await.unwrap_or(Err(SkipReason::Unreadable))?;
    if first.len() as u64 == found.stat.size {
        return Ok(first.into());
    }
    let pieces = Pieces {
        door: door.clone(),
        file: Arc::new(file),
        expected: found.stat,
        at: first.len() as u64,
        present: first,
        next: None,
    };
    Ok(Content::seekable_of(pieces, found.stat.size))
}

/// The piece that begins here; none at the end. Blocks the thread.
fn read(file: &File, expected: &Stat, at: u64) -> io::Result<Bytes> {
    check(file, expected)?;
    let wanted = expected.size.saturating_sub(at).min(PIECE);
    let mut piece = vec![0; usize::try_from(wanted).unwrap_or(0)];
    match Folder::read_at(file, &mut piece, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(io::Error::other(Changed)),
        other => other?,
    }
    check(file, expected)?;
    Ok(piece.into())
}

fn check(file: &File, expected: &Stat) -> io::Result<()> {
    match Folder::stat_of_file(file)? {
        now if now == *expected => Ok(()),
        _ => Err(io::Error::other(Changed)),
    }
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// A source that is being read.
struct Pieces {
    door: Door,
    file: Arc<File>,
    expected: Stat,
    /// What was read and not given out.
    present: Bytes,
    /// Where that ends.
    at: u64,
    next: Option<Reading>,
}

impl Pieces {
    fn next(&mut self) -> &mut Reading {
        self.next.get_or_insert_with(|| {
            let (door, file, expected, at) =
                (self.door.clone(), Arc::clone(&self.file), self.expected, self.at);
            Box::pin(async move {
                door.ask_in_time(PATIENCE, move || read(&file, &expected, at)).await.and_then(|read| read)
            })
        })
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.present.is_empty() {
            let piece = ready!(this.next().as_mut().poll(context));
            this.next = None;
            this.present = piece?;
            this.at += this.present.len() as u64;
        }
        let given = this.present.split_to(this.present.len().min(buffer.remaining()));
        buffer.put_slice(&given);
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Pieces {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        let stands = this.at - this.present.len() as u64;
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => stands.checked_add_signed(by),
            SeekFrom::End(by) => this.expected.size.checked_add_signed(by),
        };
        let to = to.ok_or(io::ErrorKind::InvalidInput)?;
        if to != stands {
            (this.at, this.present, this.next) = (to, Bytes::new(), None);
        }
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.at - self.present.len() as u64))
    }
}

/// The source is another than it was.
#[derive(Debug)]
struct Changed;

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the source changed while it was read")
    }
}

impl std::error::Error for Changed {}

pub(crate) fn is_changed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Changed>)
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use locus_core::{Clock, TenantId};
    use locus_testkit::ManualClock;

    use super::*;
    use crate::{source::Way, walk::Anchor};

    fn source(dir: &Path, bytes: &[u8]) -> Found {
        let mut file = File::create(dir.join("a")).expect("a source of the test's own");
        io::Write::write_all(&mut file, bytes).expect("a source of the test's own");
        let folder = Arc::new(Folder::open(dir).expect("a source of the test's own"));
        let stat = folder.stat_of("a").expect("a source of the test's own");
        let tenant = TenantId::parse("acme").expect("a source of the test's own");
        let anchor = Arc::new(Anchor { tenant, path: Path::new("").into() });
        let way = Arc::new(Way::to_root(&stat));
        Found { folder, way, anchor, name: "a".into(), path: "a".into(), stat }
    }

    #[tokio::test]
    async fn a_source_is_read_by_pieces_to_its_end_and_again_from_its_beginning() {
        let temp = tempfile::tempdir().unwrap();
        let bytes: Vec<_> = (0..PIECE * 5 / 2).map(|at| (at % 251) as u8).collect();
        let door = Door::new(ManualClock::new(), false, 1);
        let mut content = open(&door, &source(temp.path(), &bytes)).await.unwrap();
        assert_eq!((content.size_hint(), content.is_blocking()), (Some(bytes.len() as u64), false));
        content.mark().await.unwrap();
        for part in [PIECE + 7, u64::MAX] {
            let mut read = Vec::new();
            content.read_chunk(&mut read, usize::try_from(part).unwrap()).await.unwrap();
            assert!(read == bytes[..read.len()] && read.len() as u64 == part.min(bytes.len() as u64));
            assert!(content.rewind().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_source_that_changes_between_two_pieces_ends_in_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let bytes = vec![1; usize::try_from(PIECE * 2).unwrap()];
        let door = Door::new(ManualClock::new(), false, 1);
        let mut content = open(&door, &source(temp.path(), &bytes)).await.unwrap();
        let longer = File::options().append(true).open(temp.path().join("a")).unwrap();
        io::Write::write_all(&mut &longer, b"more").unwrap();
        let error = content.read_chunk(&mut Vec::new(), usize::MAX).await.unwrap_err();
        assert!(is_changed(&error), "{error}");
    }

    #[tokio::test]
    async fn b85_a_piece_that_does_not_come_within_a_minute_ends_the_content_and_blocks_no_thread() {
        let temp = tempfile::tempdir().unwrap();
        let bytes = vec![1; usize::try_from(PIECE * 2).unwrap()];
        let clock = ManualClock::new();
        let door = Door::new(Arc::clone(&clock) as Arc<dyn Clock>, false, 1);
        let mut content = open(&door, &source(temp.path(), &bytes)).await.unwrap();
        let (answer, hangs) = std::sync::mpsc::channel::<()>();
        let hanging = tokio::spawn({
            let door = door.clone();
            async move { door.ask(move || hangs.recv().is_err()).await }
        });
        while !door.is_busy() {
            tokio::task::yield_now().await;
        }
        let mut chunk = Vec::new();
        let mut reading = Box::pin(content.read_chunk(&mut chunk, usize::MAX));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(reading.as_mut().poll(&mut context).is_pending());
        clock.advance(PATIENCE);
        assert_eq!(reading.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(answer);
        assert!(hanging.await.unwrap().unwrap());
    }
}
