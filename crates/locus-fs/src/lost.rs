//! What is left of content that was lent to a write that was given up.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Says what became of the content: to read nothing would look like an empty file.
pub(crate) struct Lost;

impl AsyncRead for Lost {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other("the content went with a write that was given up")))
    }
}
