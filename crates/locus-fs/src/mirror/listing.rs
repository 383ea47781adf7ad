//! Pages over all members: those of the first one, then what the second one has beyond it, and so on.

use std::sync::Arc;

use locus_core::{BlobPage, BlobPath, Cursor, Error, ListedBlob, Result, StoragePath, StorageVolume};

use crate::mirror::{core::Core, seal::content_len};

/// Where a listing is: a member, the member's own cursor, and which earlier members were listed, a bit for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) member: usize,
    pub(crate) from: Option<Cursor>,
    pub(crate) listed: u16,
}

impl Place {
    pub(crate) fn encode(&self) -> Cursor {
        let from = self.from.as_ref().map_or("", |from| &from.0);
        Cursor(format!("{} {:x} {from}", self.member, self.listed))
    }

    pub(crate) fn decode(cursor: &Cursor, members: usize) -> Result<Self> {
        let mut parts = cursor.0.splitn(3, ' ');
        let (member, listed, from) = (parts.next(), parts.next(), parts.next());
        let member = member.and_then(|member| member.parse().ok()).filter(|member| *member < members);
        let listed = listed.and_then(|listed| u16::from_str_radix(listed, 16).ok());
        match (member, listed, from) {
            (Some(member), Some(listed), Some(from)) => {
                Ok(Self { member, from: (!from.is_empty()).then(|| Cursor(from.into())), listed })
            }
            _ => Err(FOREIGN),
        }
    }

    /// The next member's beginning.
    pub(crate) fn behind(&self) -> Self {
        // Members are 16 at most.
        Self { member: self.member + 1, from: None, listed: self.listed | 1 << self.member }
    }
}

const FOREIGN: Error =
    Error::InvalidArgument { name: "from", why: "is no cursor of this volume: pass one as it was given" };

impl Core {
    pub(crate) async fn list(
        &self,
        under: Option<&StoragePath>,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<BlobPage> {
        self.may_be_used()?;
        let place = match from {
            Some(cursor) => Place::decode(cursor, self.members.len())?,
            None => Place::default(),
        };
        if from.is_none() && !self.members.iter().enumerate().any(|(n, _)| self.is_listed(n)) {
            return Err(self.unavailable("has no member that is up to date"));
        }
        let (page, next) = self.page(place, under, limit, |n| self.is_listed(n)).await?;
        Ok(BlobPage { blobs: page, next: next.map(|next| next.encode()), ..BlobPage::default() })
    }

    /// The first member from here on that is there, and where it goes on there.
    pub(crate) fn up_from(&self, mut place: Place) -> Option<(Place, Arc<dyn StorageVolume>)> {
        loop {
            if let Some(volume) = self.members.get(place.member)?.up() {
                return Some((place, volume));
            }
            place = Place { member: place.member + 1, from: None, ..place };
        }
    }

    /// Where it goes on behind a page of a member.
    pub(crate) fn go_on(&self, place: Place, next: Option<Cursor>) -> Option<Cursor> {
        let next = match next {
            Some(from) => Place { from: Some(from), ..place },
            None => place.behind(),
        };
        (next.member < self.members.len()).then(|| next.encode())
    }

    /// A member whose listing may be believed.
    fn is_listed(&self, n: usize) -> bool {
        self.members[n].up().is_some() && self.ledger.lock().trusts(n)
    }

    /// Blobs of one member that no earlier one has. Notes are none.
    pub(crate) async fn page(
        &self,
        mut place: Place,
        under: Option<&StoragePath>,
        limit: usize,
        is_listed: impl Fn(usize) -> bool,
    ) -> Result<(Vec<ListedBlob>, Option<Place>)> {
        let volume = loop {
            let Some(member) = self.members.get(place.member) else { return Ok((Vec::new(), None)) };
            if is_listed(place.member)
                && let Some(volume) = member.up()
            {
                break volume;
            }
            if place.from.is_some() {
                let why = format!("lost its member {} while it was listed: begin again", member.id);
                return Err(self.unavailable(why));
            }
            place.member += 1;
        };
        // What one member has beyond another is known only of what was looked at.
        let page = volume.list(under, place.from.as_ref(), limit).await?.whole()?;
        let mut blobs = Vec::new();
        for blob in page.blobs {
            if blob.path.owner != self.notes_owner && !self.was_listed(&place, &blob.path).await {
                // Of a damaged copy the length is not known.
                blobs.push(ListedBlob { length: content_len(blob.length).unwrap_or(0), ..blob });
            }
        }
        let next = match page.next {
            Some(from) => Some(Place { from: Some(from), ..place }),
            None => Some(place.behind()),
        };
        Ok((blobs, next.filter(|next| (next.member..self.members.len()).any(&is_listed))))
    }

    /// Whether a member that was listed already has it. One that came meanwhile was not listed.
    async fn was_listed(&self, place: &Place, at: &BlobPath) -> bool {
        for (n, earlier) in self.members.iter().enumerate().take(place.member) {
            if place.listed & 1 << n != 0
                && let Some(volume) = earlier.up()
                && volume.open(at, 0..0).await.is_ok()
            {
                return true;
            }
        }
        false
    }
}
