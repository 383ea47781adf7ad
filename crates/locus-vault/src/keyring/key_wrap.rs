//! The seam to whoever keeps keys elsewhere.

use std::fmt::Debug;

use async_trait::async_trait;
use locus_core::BoxError;
use zeroize::Zeroizing;

/// A service that keeps a key of its own and seals a few bytes with it, such as a key-management service or a smart card.
///
/// What it seals must open unchanged or not at all (authenticated encryption): a ring relies on that to be the one that
/// was sealed. It is asked once when a recipient is added, and once each time a ring is opened; changes of the ring do
/// without it.
#[async_trait]
pub trait KeyWrap: Debug + Send + Sync {
    /// Its name, 1 to 255 bytes, by which a ring knows whom to ask: the service and its key, for example. Not secret.
    fn provider(&self) -> &str;

    /// Seals 64 bytes into at most 8 KiB.
    ///
    /// # Errors
    /// Whatever went wrong; no recipient is added.
    async fn wrap(&self, secret: &[u8]) -> Result<Vec<u8>, BoxError>;

    /// Opens what [`wrap`](Self::wrap) sealed, perhaps in another process.
    ///
    /// # Errors
    /// Whatever went wrong; the ring stays closed.
    async fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, BoxError>;
}
