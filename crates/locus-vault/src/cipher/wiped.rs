//! Memory that is overwritten before it is given back.

use std::{fmt, ops::Deref};

use zeroize::optimization_barrier;

/// A content in the open, overwritten when it is dropped, and shown by nothing. As [`Zeroizing`](zeroize::Zeroizing), which
/// goes byte by byte: for a long content that takes longer than to open it.
pub(crate) struct Wiped {
    bytes: Vec<u8>,
    /// Where it begins.
    from: usize,
}

impl Wiped {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self::behind(bytes, 0)
    }

    /// What stands in `bytes` behind the first ones.
    pub(crate) fn behind(bytes: Vec<u8>, from: usize) -> Self {
        Self { bytes, from }
    }

    /// All of the memory, also what an earlier, longer content left behind the end.
    fn wipe(&mut self) {
        self.bytes.resize(self.bytes.capacity(), 0);
        wipe(&mut self.bytes);
    }
}

/// Overwrites, although nobody reads it again.
pub(super) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    optimization_barrier(bytes);
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }
}

impl fmt::Debug for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wiped(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_memory_is_overwritten_where_it_lies() {
        let mut bytes = Vec::with_capacity(100);
        bytes.extend_from_slice(&[7; 90]);
        bytes.truncate(50);
        let at = bytes.as_ptr();
        let mut wiped = Wiped::behind(bytes, 20);
        assert_eq!((&*wiped, format!("{wiped:?}").as_str()), (&[7; 30][..], "Wiped(..)"));
        wiped.wipe();
        assert_eq!((wiped.bytes.as_ptr(), wiped.bytes.len()), (at, wiped.bytes.capacity()));
        assert!(wiped.bytes.len() >= 100 && wiped.bytes.iter().all(|byte| *byte == 0));
    }
}
