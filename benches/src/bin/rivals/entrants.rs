//! Who takes part.

use std::path::Path;

use locus_benches::{
    BoxError, FileFloor, LeanFloor, LogFloor, Naming, Place, Queue,
    cycles::{Contender, Promise},
};
use tokio::runtime::Handle;

use crate::{
    arguments::Durability,
    contenders::{
        Contents, fjall, postgres, redb, redis, spool::Spool, sqlite_grouped, sqlite_stock::SqliteStock,
        yaque::Yaque,
    },
};

/// Who is wanted; empty: all.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// Only those of these names, or whose names hold one of these words
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Only those who promise this about completions, where writes are durable
    #[arg(long, value_name = "WHICH")]
    completions: Option<Completions>,
}

/// What completions promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Completions {
    /// They survive power loss
    Durable,
    /// A sync of somebody else takes them along
    Lazy,
}

type Opened = Result<Vec<Box<dyn Contender>>, BoxError>;

/// Where somebody is opened, and how.
struct Setting<'a> {
    dir: &'a Path,
    promise: Promise,
    runtime: &'a Handle,
}

impl Wanted {
    fn takes(&self, promise: Promise) -> bool {
        match self.completions {
            Some(Completions::Durable) => promise != Promise::LazyCompletions,
            Some(Completions::Lazy) => promise != Promise::Durable,
            None => true,
        }
    }
}

/// Somebody who may take part.
struct Entrant {
    /// Of those who come of it.
    names: &'static [&'static str],
    /// With each of these it takes part once.
    promises: &'static [Promise],
    open: fn(&Setting<'_>) -> Opened,
    /// Whether it takes part with contents of so many bytes.
    takes: fn(usize) -> bool,
    /// Whether it may be missing on a machine.
    may_be_missing: bool,
}

const ALL: &[Promise] = &[Promise::Durable, Promise::LazyCompletions, Promise::Buffered];
/// Of those who sync completions when they sync at all.
const STRICT: &[Promise] = &[Promise::Durable, Promise::Buffered];
/// Of those who never sync completions.
const LAZY: &[Promise] = &[Promise::LazyCompletions, Promise::Buffered];
const BUFFERED: &[Promise] = &[Promise::Buffered];

/// Up to this long a content may rest in Locus's journal in the large cells.
const JOURNAL_TO: Place = Place::JournalTo(1 << 20);

const ENTRANTS: &[Entrant] = &[
    locus(&["Locus journal"], |at| queue(Place::Journal, at), |bytes| Place::Journal.takes(bytes)),
    locus(&["Locus journal to 1 MiB"], |at| queue(JOURNAL_TO, at), |bytes| JOURNAL_TO.takes(bytes)),
    locus(&["Locus file each"], |at| queue(Place::File, at), |bytes| Place::File.takes(bytes)),
    rival(&["shared-log floor"], ALL, |at| one(LogFloor::create(at.dir, at.promise, at.runtime.clone())?)),
    rival(&["file floor"], ALL, |at| one(FileFloor::create(at.dir, at.promise)?)),
    rival(&["temp + rename"], LAZY, |at| one(LeanFloor::create(at.dir, Naming::Rename, at.promise)?)),
    rival(&["O_TMPFILE + linkat"], LAZY, |at| one(LeanFloor::create(at.dir, Naming::Link, at.promise)?)),
    rival(&["fjall"], ALL, |at| {
        Ok(vec![fjall::open(at.dir, Contents::Inside, at.promise, at.runtime.clone())?])
    }),
    rival(&["fjall + file"], ALL, |at| {
        Ok(vec![fjall::open(at.dir, Contents::Beside, at.promise, at.runtime.clone())?])
    }),
    rival(&["redb"], ALL, |at| Ok(vec![redb::open(at.dir, at.promise, at.runtime.clone())?])),
    rival(&["SQLite grouped inside"], ALL, |at| {
        Ok(vec![sqlite_grouped::open(at.dir, Contents::Inside, at.promise, at.runtime.clone())?])
    }),
    rival(&["SQLite grouped row + file"], ALL, |at| {
        Ok(vec![sqlite_grouped::open(at.dir, Contents::Beside, at.promise, at.runtime.clone())?])
    }),
    rival(&["SQLite inside"], STRICT, |at| one(SqliteStock::open(at.dir, Contents::Inside, at.promise)?)),
    rival(&["SQLite row + file"], STRICT, |at| one(SqliteStock::open(at.dir, Contents::Beside, at.promise)?)),
    Entrant {
        may_be_missing: true,
        ..rival(&["PostgreSQL bytea", "PostgreSQL row + file"], STRICT, |at| {
            postgres::open(at.dir, at.promise, at.runtime)
        })
    },
    Entrant {
        may_be_missing: true,
        ..rival(&["Redis inside", "Redis entry + file"], STRICT, |at| {
            redis::open(at.dir, at.promise, at.runtime)
        })
    },
    rival(&["spool folder"], LAZY, |at| one(Spool::create(at.dir, at.promise)?)),
    rival(&["yaque"], BUFFERED, |at| one(Yaque::open(at.dir)?)),
];

const fn rival(
    names: &'static [&'static str],
    promises: &'static [Promise],
    open: fn(&Setting<'_>) -> Opened,
) -> Entrant {
    Entrant { names, promises, open, takes: |_| true, may_be_missing: false }
}

const fn locus(
    names: &'static [&'static str],
    open: fn(&Setting<'_>) -> Opened,
    takes: fn(usize) -> bool,
) -> Entrant {
    Entrant { takes, ..rival(names, ALL, open) }
}

fn one(contender: impl Contender + 'static) -> Opened {
    Ok(vec![Box::new(contender)])
}

fn queue(place: Place, at: &Setting<'_>) -> Opened {
    one(Queue::open(at.dir, place, at.promise, at.runtime.clone())?)
}

/// Whether one of these words, if there are any, means this name: the whole of it, or a part where it is nobody's whole name.
fn is_wanted(name: &str, only: &[String]) -> bool {
    let name = name.to_lowercase();
    only.is_empty()
        || only.iter().map(|word| word.trim().to_lowercase()).any(|word| {
            let is_whole = names().any(|name| name.to_lowercase() == word);
            if is_whole { name == word } else { name.contains(&word) }
        })
}

fn names() -> impl Iterator<Item = &'static str> {
    ENTRANTS.iter().flat_map(|entrant| entrant.names).copied()
}

/// Whether each of these words means somebody.
pub(crate) fn check(only: &[String]) -> Result<(), BoxError> {
    for word in only {
        if word.trim().is_empty() || !names().any(|name| is_wanted(name, std::slice::from_ref(word))) {
            let names = names().map(|name| format!("\n  {name}")).collect::<String>();
            return Err(format!("nobody's name holds '{word}'; there are:{names}").into());
        }
    }
    Ok(())
}

/// Opens those who are wanted and take this size, each in a folder of its own; it may be nobody. Says aloud who is missing.
pub(crate) fn enter(
    dir: &Path,
    durability: Durability,
    size: usize,
    wanted: &Wanted,
    runtime: &Handle,
) -> Opened {
    let mut entered = Vec::new();
    for (number, entrant) in ENTRANTS.iter().enumerate() {
        let Entrant { names, promises, open, takes, may_be_missing } = entrant;
        if !names.iter().any(|name| is_wanted(name, &wanted.only)) || !takes(size) {
            continue;
        }
        let promises = promises.iter().filter(|promise| {
            promise.is_durable() == (durability == Durability::Durable) && wanted.takes(**promise)
        });
        for (nth, promise) in promises.enumerate() {
            let dir = dir.join(format!("{number}-{nth}"));
            std::fs::create_dir_all(&dir)?;
            match open(&Setting { dir: &dir, promise: *promise, runtime }) {
                Ok(opened) => entered.extend(opened),
                Err(error) if *may_be_missing => {
                    println!("SKIPPED: {}: {error}\n", names.join("; "));
                    eprintln!("SKIPPED: {}: {error}", names.join("; "));
                }
                Err(error) => return Err(format!("{}: {error}", names.join("; ")).into()),
            }
        }
    }
    entered.retain(|contender| is_wanted(&contender.label().name, &wanted.only));
    Ok(entered)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use locus_benches::cycles::{Load, content};

    use super::*;

    #[test]
    fn a_word_that_means_nobody_is_told_with_all_names() {
        assert!(check(&["sqlite".into(), "Locus".into()]).is_ok());
        let error = check(&["mongo".into()]).unwrap_err().to_string();
        assert!(error.contains("'mongo'") && error.contains("\n  yaque"), "{error}");
        assert!(check(&["".into()]).is_err());
    }

    /// All but servers, which need not be installed.
    fn embedded() -> Wanted {
        let embedded = ENTRANTS.iter().filter(|entrant| !entrant.may_be_missing);
        let only = embedded.flat_map(|entrant| entrant.names).map(ToString::to_string).collect();
        Wanted { only, completions: None }
    }

    #[test]
    fn a_whole_name_means_one_and_a_part_means_all_that_hold_it() {
        let wanted = |word: &str| names().filter(|name| is_wanted(name, &[word.into()])).count();
        assert_eq!(
            (wanted("fjall"), wanted("fjall +"), wanted("SQLITE"), wanted("sqlite row + file")),
            (1, 1, 4, 1)
        );
        assert!(names().all(|name| !name.contains(',')), "a comma ends a word");
    }

    #[test]
    fn one_promise_about_completions_can_be_wanted() {
        let wanted = |completions| Wanted { only: Vec::new(), completions };
        assert!(ALL.iter().all(|promise| wanted(None).takes(*promise)));
        let lazy = wanted(Some(Completions::Lazy));
        assert_eq!(ALL.iter().map(|promise| lazy.takes(*promise)).collect::<Vec<_>>(), [false, true, true]);
        let durable = wanted(Some(Completions::Durable));
        assert_eq!(
            ALL.iter().map(|promise| durable.takes(*promise)).collect::<Vec<_>>(),
            [true, false, true]
        );
    }

    #[test]
    fn whoever_needs_no_server_makes_cycles_and_says_how_it_is_set_up() {
        let (temp, runtime) = (tempfile::tempdir().unwrap(), tokio::runtime::Runtime::new().unwrap());
        let mut seen = BTreeSet::new();
        for (durability, size) in
            [(Durability::Durable, 1 << 10), (Durability::Durable, 100 << 10), (Durability::Buffered, 1)]
        {
            let dir = temp.path().join(format!("{durability}-{size}"));
            for contender in enter(&dir, durability, size, &embedded(), runtime.handle()).unwrap() {
                let label = contender.label().clone();
                assert_eq!(label.promise.durability(), durability.to_string(), "{label:?}");
                assert!(!contender.settings().is_empty() && contender.takes(size), "{label:?}");
                let load = Load { in_flight: 4, cycles_max: 12, time_max: Duration::MAX };
                let round = contender.round(load, &content(size)).unwrap();
                assert_eq!(round.times.len(), 12, "{label:?}");
                contender.close().unwrap();
                assert!(seen.insert((label.name, size, label.promise.completions())));
            }
            std::fs::remove_dir_all(dir).unwrap();
        }
        let names = seen.into_iter().map(|(name, ..)| name).collect::<BTreeSet<_>>();
        assert_eq!(names, embedded().only.into_iter().collect());
    }
}
