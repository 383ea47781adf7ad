//! What watchers may do: each source becomes one file, and goes only when that is durable.

use std::{collections::BTreeSet, fmt, io, rc::Rc};

use locus_core::{Durability, Error, FileKey, MetadataStore, Outcome};
use locus_watcher::{AfterImport, ScanReport};

use crate::{
    call::{Answer, Call, lengths, written},
    inbox::{Event, Inbox, Place, Source},
    limits,
    model::{Model, Touched},
    violation::{Kind, Violation, ensure},
    world::Engine,
};

/// What a look came to.
pub struct Looked {
    /// What its watcher says.
    report: ScanReport,
    /// What it did.
    events: Vec<Event>,
    /// Sources that are not there any more.
    gone: Vec<Place>,
    /// What was moved out of the folder.
    moved: Vec<Vec<u8>>,
    /// Names of sources that were gone before, and that the store remembers all the same.
    remembered: Vec<String>,
}

impl fmt::Debug for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without what is the file system's own, so that it reads the same each time.
        let moved: Vec<_> = self.moved.iter().map(Vec::len).collect();
        write!(f, "{:?} {:?}, gone {:?}, moved {moved:?}", self.report, self.events, self.gone)
    }
}

/// Looks, and asks what is to be known afterwards.
pub(crate) fn look(
    engine: &Rc<Engine>,
    model: &Model,
    folder: usize,
) -> impl Future<Output = locus_core::Result<Answer>> + use<> {
    let engine = Rc::clone(engine);
    let sources = sources_in(model, folder);
    let forgotten: Vec<_> = model.gone.iter().filter(|(place, _)| place.folder == folder).cloned().collect();
    async move {
        let Some((inbox, watchers)) = &engine.inbox else { return Ok(Answer::Done) };
        let report = watchers.look(format!("in-{folder}")).await?;
        // The watcher goes on; for the model this look is one that was never answered.
        let events = inbox.settled_events().ok_or(Error::Poisoned { outcome: Outcome::Unknown })?;
        let mut remembered = Vec::new();
        for (place, identity) in forgotten {
            let tenant = engine.tenants[place.tenant].id();
            if engine.store.remembered(tenant, &identity).await?.is_some() {
                remembered.push(identity);
            }
        }
        let (gone, moved) = vanished(inbox, sources, folder).map_err(real)?;
        Ok(Answer::Looked(Looked { report, events, gone, moved, remembered }))
    }
}

fn sources_in(model: &Model, folder: usize) -> Vec<Place> {
    model.sources.keys().filter(|place| place.folder == folder).cloned().collect()
}

/// Sources that are not there, and what was moved.
fn vanished(inbox: &Inbox, sources: Vec<Place>, folder: usize) -> io::Result<(Vec<Place>, Vec<Vec<u8>>)> {
    let gone = sources.into_iter().filter(|place| !inbox.is_there(place)).collect();
    Ok((gone, inbox.take_moved(folder)?))
}

/// The folders are the machine's own.
pub(crate) fn real(source: io::Error) -> Error {
    Error::io("use", "a folder of torture's own")(source)
}

/// Brings the model up to a look that ended.
pub(crate) fn answered(
    folder: usize,
    looked: Looked,
    model: &mut Model,
    inbox: &Inbox,
    durability: Durability,
    healthy: bool,
    touched: &mut Touched,
) -> Result<(), Violation> {
    let Looked { report, events, gone, moved, remembered } = looked;
    let durable = durability == Durability::Durable;
    for event in events {
        match event {
            Event::Begun(place, identity) => begun(model, &place, identity)?,
            Event::Brought(place, key) => {
                let (source, directory) = (source(model, &place)?.clone(), inbox.directory(&place));
                let files = [(source.content, directory)];
                if written(place.tenant, &files, source.identity.as_deref(), &[key], model)? {
                    touched.keys.push(key);
                    touched.durable = durable;
                    limits::check_let_in(place.tenant, &lengths(&files), model)?;
                }
            }
            Event::Refused(place, why) => {
                let new = [(source(model, &place)?.content.len(), inbox.directory(&place))];
                limits::check_refused(place.tenant, &new, &why, model)?;
                model.refused.insert(place.tenant);
            }
            Event::Synced => touched.durable = true,
            Event::Unsettled => {}
        }
    }
    leave(model, gone, moved, &inbox.watches[folder].after)?;
    if !healthy {
        return Ok(());
    }
    let watch = &inbox.watches[folder];
    let takes_none = watch.tenant.is_some_and(|tenant| inbox.is_shut(tenant));
    ensure(!durable || takes_none || remembered.is_empty(), Kind::Resurrected, || {
        format!("{remembered:?} are remembered although their sources are gone")
    })?;
    for (place, source) in model.sources.iter().filter(|(place, _)| place.folder == folder) {
        let may_wait =
            watch.is_patient || inbox.is_shut(place.tenant) || model.refused.contains(&place.tenant);
        let is_kept = watch.after == AfterImport::Keep && known(model, source) != Known::No;
        ensure(may_wait || is_kept, Kind::Lost, || {
            format!("{place:?} lies there after a look, and nothing holds it back: {report:?}")
        })?;
    }
    Ok(())
}

/// After the end of a process: what a look under way had begun may be so, and what it was told is.
pub(crate) fn interrupted(
    model: &mut Model,
    inbox: &Inbox,
    durability: Durability,
    killed: bool,
) -> Result<BTreeSet<FileKey>, Violation> {
    let (mut told, mut safe) = (BTreeSet::new(), BTreeSet::new());
    model.brought_in.clear();
    for event in inbox.take_events() {
        match event {
            Event::Begun(place, identity) => {
                begun(model, &place, identity.clone())?;
                let content = source(model, &place)?.content.clone();
                let files = vec![(content, inbox.directory(&place))];
                model.under_way.push(Call::Write { tenant: place.tenant, files, name: Some(identity) });
            }
            Event::Brought(place, key) => {
                let identity = source(model, &place)?.identity.clone();
                // It was the last that was begun, and is known by its key now.
                if let Some(Call::Write { tenant, files, .. }) = model.under_way.pop()
                    && !model.contents.contains_key(&key)
                {
                    let (content, directory) = files.into_iter().next().unwrap_or_default();
                    model.brought_in.push((key, tenant, directory, content, identity.unwrap_or_default()));
                }
                told.insert(key);
            }
            Event::Synced => safe.extend(told.iter().copied()),
            Event::Refused(..) | Event::Unsettled => {}
        }
    }
    Ok(if killed || durability == Durability::Durable { told } else { safe })
}

/// Holds what lies in the folders after a crash against the files that there are.
pub(crate) fn reconcile(
    model: &mut Model,
    inbox: &Inbox,
    promised: BTreeSet<FileKey>,
) -> Result<(), Violation> {
    let lost = promised.iter().find(|key| !model.facts.files.contains_key(key));
    ensure(lost.is_none(), Kind::Lost, || {
        format!("{lost:?} was brought in and confirmed to its watcher, and is not there")
    })?;
    model.refused.clear();
    for (folder, watch) in inbox.watches.iter().enumerate() {
        let (gone, moved) = vanished(inbox, sources_in(model, folder), folder)
            .map_err(|why| Violation::new(Kind::Unexpected, format!("a folder of torture's own: {why}")))?;
        leave(model, gone, moved, &watch.after)?;
    }
    Ok(())
}

/// Sources that went became files, and where they are moved to there is nothing else.
fn leave(
    model: &mut Model,
    gone: Vec<Place>,
    mut moved: Vec<Vec<u8>>,
    after: &AfterImport,
) -> Result<(), Violation> {
    for place in gone {
        let Some(source) = model.sources.remove(&place) else { continue };
        ensure(*after != AfterImport::Keep, Kind::Lost, || format!("{place:?} was to be kept, and is gone"))?;
        ensure(known(model, &source) != Known::No, Kind::Lost, || {
            format!("{place:?} is gone, and no file came of it: {:?}", source.identity)
        })?;
        let file = source.identity.as_ref().and_then(|identity| model.named.get(identity)).copied();
        model.sources_gone.extend(file);
        if matches!(after, AfterImport::Move(_)) {
            let there = moved.iter().position(|content| *content == source.content);
            let there = there
                .ok_or_else(|| Violation::new(Kind::Lost, format!("{place:?} was not moved, and is gone")))?;
            moved.swap_remove(there);
        }
        model.gone.extend(source.identity.map(|identity| (place, identity)));
    }
    ensure(moved.is_empty(), Kind::Unexpected, || {
        format!("{} files were moved that nobody put, or are not what was put", moved.len())
    })?;
    let forgotten = model.gone.len().saturating_sub(100);
    model.gone.drain(..forgotten);
    Ok(())
}

/// Whether a source became a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    /// Its file is over, and may never have been.
    Perhaps,
    No,
}

fn known(model: &Model, source: &Source) -> Known {
    match &source.identity {
        Some(identity) if model.named.contains_key(identity) => Known::Yes,
        Some(identity) if model.doubtful.contains(identity) => Known::Perhaps,
        _ => Known::No,
    }
}

fn source<'a>(model: &'a Model, place: &Place) -> Result<&'a Source, Violation> {
    let source = model.sources.get(place);
    source.ok_or_else(|| Violation::new(Kind::Unexpected, format!("nobody put {place:?}")))
}

/// A source is called the same every time, and not as another one is.
fn begun(model: &mut Model, place: &Place, identity: String) -> Result<(), Violation> {
    source(model, place)?;
    let other =
        model.sources.iter().find(|(of, source)| *of != place && source.identity.as_ref() == Some(&identity));
    ensure(other.is_none(), Kind::Lost, || format!("{place:?} and {other:?} are both called {identity}"))?;
    if let Some(source) = model.sources.get_mut(place) {
        let before = source.identity.replace(identity.clone());
        ensure(before.as_ref().is_none_or(|before| *before == identity), Kind::Resurrected, || {
            format!("{place:?} was called {before:?} before, and {identity} now")
        })?;
    }
    Ok(())
}
