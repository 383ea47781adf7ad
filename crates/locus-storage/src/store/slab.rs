//! Entries in chunks: an index stays valid while its entry lives, growth copies nothing, freed places are reused.

/// Entries per chunk.
const CHUNK: usize = 512;

/// A growing array of places for `T`.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(at) = self.free.pop() {
            *self.place(at) = Some(value);
            return at;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows as it is filled: a tenant with one file does not pay for 512.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(Some(value));
        (chunk * CHUNK + self.chunks[chunk].len() - 1) as u32
    }

    pub(crate) fn remove(&mut self, at: u32) -> T {
        let value = self.place(at).take().expect("because an index is removed once");
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        } else {
            self.free.push(at);
        }
        value
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)?.as_ref()
    }

    /// One more than the highest index in use, roughly: where an iteration by index may stop.
    pub(crate) fn end(&self) -> u32 {
        self.chunks.last().map_or(0, |last| ((self.chunks.len() - 1) * CHUNK + last.len()) as u32)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..self.end()).filter_map(|at| Some((at, self.get(at)?)))
    }

    fn place(&mut self, at: u32) -> &mut Option<T> {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, at: u32) -> &T {
        self.get(at).expect("because an index is used only while its entry lives")
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.place(at).as_mut().expect("because an index is used only while its entry lives")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_reused_and_indexes_stay() {
        let mut slab = Slab::default();
        let indexes: Vec<u32> = (0..2_000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.remove(indexes[700]), 700);
        assert_eq!(slab.get(indexes[700]), None);
        assert_eq!(slab.insert(5), indexes[700]);
        assert_eq!((slab[indexes[1_999]], slab.len, slab.end()), (1_999, 2_000, 2_000));
        for at in indexes {
            slab.remove(at);
        }
        assert_eq!((slab.len, slab.end()), (0, 0));
    }
}
