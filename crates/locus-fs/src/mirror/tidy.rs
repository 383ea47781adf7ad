//! Tidying, member by member.

use locus_core::{Cursor, Result, Tidy, TidyReport};

use crate::mirror::{core::Core, listing::Place, volume::ask};

impl Core {
    /// One step on one member. One that is away is tidied when it is back.
    pub(crate) async fn tidy(&self, what: Tidy) -> Result<TidyReport> {
        self.may_be_used()?;
        let from = match &what {
            Tidy::EmptyDirectories(sweep) => sweep.from.as_ref(),
            Tidy::Junk(sweep) => sweep.from.as_ref(),
            _ => return self.tidy_all(&what).await,
        };
        let mut place = from.map_or(Ok(Place::default()), |from| Place::decode(from, self.members.len()))?;
        loop {
            let Some(member) = self.members.get(place.member) else { return Ok(TidyReport::default()) };
            let Some(volume) = member.up() else {
                place = Place { member: place.member + 1, from: None, ..place };
                continue;
            };
            let done = volume.tidy(beginning_at(what, place.from.clone())).await?;
            let next = match &done.next {
                Some(from) => Place { from: Some(from.clone()), ..place },
                None => place.behind(),
            };
            let next = (next.member < self.members.len()).then(|| next.encode());
            return Ok(TidyReport { next, ..done });
        }
    }

    async fn tidy_all(&self, what: &Tidy) -> Result<TidyReport> {
        let said = ask(self, async |volume| volume.tidy(what.clone()).await).await.at_least_one(self)?;
        Ok(said.good.into_iter().fold(TidyReport::default(), |all, (_, one)| TidyReport {
            removed: all.removed + one.removed,
            bytes: all.bytes + one.bytes,
            failed: all.failed + one.failed,
            next: None,
        }))
    }
}

fn beginning_at(mut what: Tidy, from: Option<Cursor>) -> Tidy {
    match &mut what {
        Tidy::EmptyDirectories(sweep) => sweep.from = from,
        Tidy::Junk(sweep) => sweep.from = from,
        _ => {}
    }
    what
}
