//! Directories that hold nothing, and files of other programs.

use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use locus_core::{
    CleanupStatistics, Cursor, DirSweep, Error, JunkSweep, Names, Result, StoragePath, StorageVolume, Tidy,
};

use crate::{Sweeper, settings::invalid, sweep::Run};

impl Sweeper {
    /// All directories of all volumes; with `emptied` only those that lost a blob since the last time, and were not used since.
    pub(crate) async fn run_empty_directories(&self, run: &mut Run<'_>, emptied: bool) -> Result<()> {
        let protected = protected(&self.settings.empty_directories.protected)?;
        let (dry_run, dirs_max) = (run.options.dry_run, self.settings.empty_directories.batch);
        let tidy = move |owner, from| {
            let protected = protected.clone();
            Tidy::EmptyDirectories(DirSweep {
                owner,
                emptied,
                idle: emptied,
                protected,
                dry_run,
                dirs_max,
                from,
            })
        };
        self.tidy_all(run, tidy, |step, removed, _| step.empty_directories_removed += removed).await
    }

    pub(crate) async fn run_junk(&self, run: &mut Run<'_>) -> Result<()> {
        let junk: Arc<[String]> = self.settings.junk.names.clone().into();
        let names = Names::new(move |name| junk.iter().any(|junk| junk == name));
        let (dry_run, dirs_max) = (run.options.dry_run, self.settings.junk.batch);
        let tidy = move |owner, from| {
            let names = names.clone();
            Tidy::Junk(JunkSweep { owner, names, dry_run, dirs_max, from })
        };
        self.tidy_all(run, tidy, |step, removed, bytes| {
            step.junk_removed += removed;
            step.space_freed += bytes;
        })
        .await
    }

    /// Volume by volume, step by step. A volume that fails is passed by.
    async fn tidy_all(
        &self,
        run: &mut Run<'_>,
        tidy: impl Fn(Option<StoragePath>, Option<Cursor>) -> Tidy,
        count: impl Fn(&mut CleanupStatistics, u64, u64),
    ) -> Result<()> {
        let Some(owner) = self.owner_of(run).await? else { return Ok(()) };
        for volume in self.volumes.all().into_iter().filter(|volume| is_tidied(&**volume)) {
            let mut from = None;
            loop {
                let began = self.clock.monotonic();
                let mut step = CleanupStatistics::default();
                from = match volume.tidy(tidy(owner.clone(), from)).await {
                    Ok(tidied) => {
                        count(&mut step, tidied.removed, tidied.bytes);
                        step.errors += tidied.failed;
                        self.passed_by(volume.id(), &tidied.unread, &mut step);
                        tidied.next
                    }
                    Err(error) => {
                        self.tell(volume.id(), "tidy", &error);
                        self.failed(&mut step, volume.id().to_string(), &error);
                        None
                    }
                };
                run.add(&self.count(step, began, run.options.dry_run));
                if from.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whose directories a run goes through: everybody's, or one tenant's; none when there is no such tenant.
    pub(crate) async fn owner_of(&self, run: &Run<'_>) -> Result<Option<Option<StoragePath>>> {
        let Some(tenant) = run.options.tenant else { return Ok(Some(None)) };
        match &self.tenants {
            Some(tenants) => {
                Ok(tenants.try_get(tenant).await?.map(|tenant| Some(tenant.storage_path.clone())))
            }
            None => Ok(Some(Some(tenant.into()))),
        }
    }
}

fn is_tidied(volume: &dyn StorageVolume) -> bool {
    let status = volume.status();
    status.is_healthy && !status.read_only
}

/// The directories that stay whatever they hold.
pub(crate) fn protected(patterns: &[String]) -> Result<Names> {
    let set = patterns_of(patterns).or_else(|why| {
        let (pattern, why) = *why;
        invalid("empty_directories.protected", &format!("holds {pattern:?}: {why}"))
    })?;
    Ok(Names::new(move |dir| set.is_match(dir)))
}

fn patterns_of(patterns: &[String]) -> Result<GlobSet, Box<(String, String)>> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.map_err(|error| Box::new((pattern.clone(), error.kind().to_string())))?);
    }
    set.build().map_err(|error| Box::new((patterns.join(", "), error.to_string())))
}

impl Sweeper {
    /// Refuses to go on once records cannot be trusted.
    pub(crate) fn check_trust(&self) -> Result<()> {
        if self.upkeep.is_trustworthy() {
            return Ok(());
        }
        Err(Error::Poisoned { outcome: locus_core::Outcome::NotDone })
    }
}
