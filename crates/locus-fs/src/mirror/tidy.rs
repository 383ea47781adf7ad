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
        let place = from.map_or(Ok(Place::default()), |from| Place::decode(from, self.members.len()))?;
        let Some((place, volume)) = self.up_from(place) else { return Ok(TidyReport::default()) };
        let mut done = volume.tidy(beginning_at(what, place.from.clone())).await?;
        done.next = self.go_on(place, done.next);
        Ok(done)
    }

    async fn tidy_all(&self, what: &Tidy) -> Result<TidyReport> {
        let said = ask(self, async |volume| volume.tidy(what.clone()).await).await.at_least_one(self)?;
        Ok(said.good.into_iter().fold(TidyReport::default(), |mut all, (_, mut one)| {
            all.removed += one.removed;
            all.bytes += one.bytes;
            all.failed += one.failed;
            all.unread.append(&mut one.unread);
            all
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
