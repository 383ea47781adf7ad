//! What `Ok` promises.

/// What `Ok` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Content, record and completion survive power loss.
    Durable,
    /// Content and record survive power loss; completions are handed to the kernel, and a sync of somebody else takes
    /// them along.
    LazyCompletions,
    /// All is handed to the kernel, and synced once a second.
    Buffered,
}

impl Promise {
    /// Of content and record: `durable` or `buffered`.
    #[must_use]
    pub fn durability(self) -> &'static str {
        if self.is_durable() { "durable" } else { "buffered" }
    }

    /// Of completions: `durable` or `lazy`.
    #[must_use]
    pub fn completions(self) -> &'static str {
        if self == Self::Durable { "durable" } else { "lazy" }
    }

    /// Whether content and record survive power loss.
    #[must_use]
    pub fn is_durable(self) -> bool {
        self != Self::Buffered
    }

    /// Whether whoever keeps this may be held against one who promises `other`: of content the same, of completions no
    /// less.
    #[must_use]
    pub fn is_rival_of(self, other: Self) -> bool {
        self.is_durable() == other.is_durable() && (self == Self::Durable || other != Self::Durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_syncs_completions_is_a_rival_of_the_lazy_but_not_the_other_way_round() {
        let (durable, lazy) = (Promise::Durable, Promise::LazyCompletions);
        assert!(durable.is_rival_of(durable) && durable.is_rival_of(lazy) && lazy.is_rival_of(lazy));
        assert!(!lazy.is_rival_of(durable));
        assert!(!durable.is_rival_of(Promise::Buffered) && !Promise::Buffered.is_rival_of(lazy));
        assert!(Promise::Buffered.is_rival_of(Promise::Buffered));
    }
}
