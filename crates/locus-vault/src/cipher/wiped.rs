//! Memory that is overwritten before it is given back.

use std::{fmt, ops::Deref};

use zeroize::{Zeroizing, optimization_barrier};

/// A content in the open, overwritten when it is dropped, and shown by nothing. As [`Zeroizing`], which goes byte by byte:
/// for a long content that takes longer than to open it.
#[derive(Default)]
pub(crate) struct Wiped(Vec<u8>);

impl Wiped {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// All of the memory, also what an earlier, longer content left behind the end.
    fn wipe(&mut self) {
        self.0.clear();
        self.0.resize(self.0.capacity(), 0);
        optimization_barrier(self.0.as_slice()); // nobody reads it again: the compiler must not know
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Nothing is copied.
impl From<Zeroizing<Vec<u8>>> for Wiped {
    fn from(mut bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(std::mem::take(&mut *bytes))
    }
}

impl Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
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
        let mut wiped = Wiped::new(bytes);
        assert_eq!((&*wiped, format!("{wiped:?}").as_str()), (&[7; 50][..], "Wiped(..)"));
        wiped.wipe();
        assert_eq!((wiped.as_ptr(), wiped.len()), (at, wiped.0.capacity()));
        assert!(wiped.len() >= 100 && wiped.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_comes_from_elsewhere_is_not_copied() {
        let bytes = Zeroizing::new(vec![7; 50]);
        let at = bytes.as_ptr();
        assert_eq!(Wiped::from(bytes).as_ptr(), at);
    }
}
